//! The elements and colours that the pictures share. PURE.

use svg::Document;
use svg::node::element::{Circle, Line, Rectangle, Text, Title};

/// Width of a picture, in pixels.
pub(super) const WIDTH: f64 = 800.0;
/// Space at the left and at the right.
pub(super) const MARGIN: f64 = 16.0;

pub(super) const INK: &str = "#1f2328";
pub(super) const FAINT_INK: &str = "#59636e";
const PAPER: &str = "#ffffff";
const FRAME: &str = "#d1d9e0";
/// Colours that differ also for the colour-blind (Okabe and Ito), lighter where black text is on them.
pub(super) const BLUE: &str = "#7cb7e8";
pub(super) const GREEN: &str = "#5fc3a0";
pub(super) const YELLOW: &str = "#f2d95c";
pub(super) const ORANGE: &str = "#eda63f";
pub(super) const RED: &str = "#e58a5e";
pub(super) const GREY: &str = "#b4bcc4";
pub(super) const PALE: &str = "#eaeef2";
pub(super) const DARK: &str = "#6e7781";

/// Where a text is anchored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture in the making.
pub(super) struct Canvas {
    document: Document,
}

impl Canvas {
    /// An empty picture. The title is read aloud by screen readers. The background is white, because the picture may be
    /// shown on a dark page.
    pub(super) fn new(height: f64, title: &str) -> Self {
        let paper = Rectangle::new()
            .set("x", 0.5)
            .set("y", 0.5)
            .set("width", WIDTH - 1.0)
            .set("height", height - 1.0)
            .set("rx", 6)
            .set("fill", PAPER)
            .set("stroke", FRAME);
        let document = Document::new()
            .set("viewBox", format!("0 0 {WIDTH} {height}"))
            .set("width", WIDTH)
            .set("height", height)
            .set("role", "img")
            .set("font-family", "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif")
            .set("font-size", 12)
            .add(Title::new(title))
            .add(paper);
        Self { document }
    }

    pub(super) fn rectangle(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), fill: &str, title: &str) {
        let rectangle = Rectangle::new()
            .set("x", rounded(x))
            .set("y", rounded(y))
            .set("width", rounded(width))
            .set("height", rounded(height))
            .set("fill", fill)
            .add(Title::new(title));
        self.add(rectangle);
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64)) {
        let line = Line::new()
            .set("x1", rounded(from.0))
            .set("y1", rounded(from.1))
            .set("x2", rounded(to.0))
            .set("y2", rounded(to.1))
            .set("stroke", FRAME);
        self.add(line);
    }

    pub(super) fn circle(&mut self, (x, y): (f64, f64), radius: f64, fill: &str, title: &str) {
        let circle = Circle::new()
            .set("cx", rounded(x))
            .set("cy", rounded(y))
            .set("r", radius)
            .set("fill", fill)
            .add(Title::new(title));
        self.add(circle);
    }

    pub(super) fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, fill: &str, content: &str) {
        self.add(text((x, y), anchor, fill, content));
    }

    pub(super) fn bold(&mut self, (x, y): (f64, f64), content: &str) {
        self.add(text((x, y), Anchor::Start, INK, content).set("font-size", 14).set("font-weight", "bold"));
    }

    fn add(&mut self, node: impl Into<Box<dyn svg::Node>>) {
        svg::Node::append(&mut self.document, node);
    }

    pub(super) fn finish(self) -> String {
        self.document.to_string()
    }
}

fn text((x, y): (f64, f64), anchor: Anchor, fill: &str, content: &str) -> Text {
    let anchor = match anchor {
        Anchor::Start => "start",
        Anchor::Middle => "middle",
        Anchor::End => "end",
    };
    Text::new(content).set("x", rounded(x)).set("y", rounded(y)).set("text-anchor", anchor).set("fill", fill)
}

/// To a tenth of a pixel, so that the file stays short.
fn rounded(pixels: f64) -> f64 {
    (pixels * 10.0).round() / 10.0
}

/// A number of things, as a factor of a length.
pub(super) fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::MAX, f64::from)
}

/// About the width of a text in pixels; the font is the reader's.
pub(super) fn text_width(text: &str) -> f64 {
    count(crate::base::text::columns(text)) * 6.6
}
