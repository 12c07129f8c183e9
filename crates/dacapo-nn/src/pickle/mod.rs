//! Python pickles, read as data: numbers, text, lists, and objects of which only the class's name and the
//! arguments are known. Nothing is imported, called or built; a class is a name. What PyTorch keeps in its
//! pickles is read by [`crate::TorchFile`].
//!
//! ```
//! let pickle = dacapo_nn::pickle::read(b"\x80\x04]\x94(K\x01\x8c\x01ae.")?;
//! let items: Vec<_> = pickle.root().items().expect("a list").collect();
//! assert_eq!(items[0].as_int(), Some(1));
//! assert_eq!(items[1].as_text(), Some("a"));
//! # Ok::<(), dacapo_nn::Error>(())
//! ```

mod machine;
mod numpy;
mod opcode;
mod text;
mod value;

pub use machine::read;
pub use numpy::NumpyArray;
pub use value::{Kind, Pickle, Value};
