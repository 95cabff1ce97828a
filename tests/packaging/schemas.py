"""Validates ops/ against the schemas of Kubernetes and of the Compose specification. .ci/check-ops calls it.

    schemas.py FOLDER      the folder contains the wheels of schemas.txt
"""

import json
import pathlib
import sys
import zipfile

import jsonschema_rs
import yaml

# the oldest release that the manifests are for, and the newest whose schemas the package contains
KUBERNETES = ["1.25.0", "1.37.0"]
COMPOSE = "check_jsonschema/builtin_schemas/vendor/compose-spec.json"


class Wheel:
    """The schemas in a wheel, by their path."""

    def __init__(self, folder, package):
        [path] = pathlib.Path(folder).glob(f"{package}-*.whl")
        self.archive = zipfile.ZipFile(path)

    def schema(self, path):
        return json.loads(self.archive.read(path))

    def errors(self, path, document):
        def neighbour(uri):
            return self.schema(f"{path.rpartition('/')[0]}/{uri.rpartition('/')[2]}")

        validator = jsonschema_rs.validator_for(self.schema(path), retriever=neighbour)
        for error in validator.iter_errors(document):
            place = ".".join(str(part) for part in error.instance_path)
            yield f"{place}: {error.message}"


def kubernetes_errors(wheel):
    """The errors of all manifests. The kustomization has no schema: tests/it/packaging/ reads it."""
    for file in sorted(pathlib.Path("ops/kubernetes").glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            if document["kind"] == "Kustomization":
                continue
            # apps/v1 is "apps-v1", policy/v1 is "policy-v1", and rbac.authorization.k8s.io/v1 "rbac-v1"
            group, _, version = document["apiVersion"].rpartition("/")
            name = "-".join(filter(None, [document["kind"].lower(), group.split(".")[0], version]))
            for release in KUBERNETES:
                path = f"kubernetes_validate/kubernetes-json-schema/v{release}-local-strict/{name}.json"
                try:
                    errors = list(wheel.errors(path, document))
                except KeyError:
                    errors = [f"there is no {document['kind']} of {document['apiVersion']}"]
                yield from (f"{file}: Kubernetes {release}: {error}" for error in errors)


def main(folder):
    errors = list(kubernetes_errors(Wheel(folder, "kubernetes_validate")))
    compose = pathlib.Path("ops/compose.yaml")
    wheel = Wheel(folder, "check_jsonschema")
    errors += [f"{compose}: {error}" for error in wheel.errors(COMPOSE, yaml.safe_load(compose.read_text()))]
    # without errors, the exit code is 0
    sys.exit("\n".join(errors) or None)


main(sys.argv[1])
