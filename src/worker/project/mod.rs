//! Projects objects of the mirror into the product tables: loads what the projection asks for, and writes the rows.
//!
//! Called in a transaction that holds the locks of the customers and objects. Reads only the mirror and the facts. What
//! a field means, and what it depends on, is decided by the projection. `customers`, `plans` and `others` each
//! project one kind of object; `answer` loads what they ask for.

mod answer;
mod customers;
mod others;
mod plans;
mod rows;

pub(crate) use self::customers::customers;
pub(crate) use self::others::others;
pub(crate) use self::plans::plans;
