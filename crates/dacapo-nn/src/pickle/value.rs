//! What a pickle holds. Values are kept flat, in the order in which they were read: however deep they are nested
//! and whatever refers to what, nothing here recurses.

use super::NumpyArray;

/// A value where it is small, else its place among the nodes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Slot {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Node(u32),
}

#[derive(Debug)]
pub(super) enum Node {
    BigInt(String),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Slot>),
    Tuple(Vec<Slot>),
    Set(Vec<Slot>),
    Dict(Vec<(Slot, Slot)>),
    Global { module: String, name: String },
    Persistent(Slot),
    Object(Box<Object>),
}

/// What would have been called, with what; and what would have been done to it then.
#[derive(Debug)]
pub(super) struct Object {
    pub class: Slot,
    pub args: Slot,
    pub state: Option<Slot>,
    pub items: Vec<Slot>,
    pub pairs: Vec<(Slot, Slot)>,
}

/// Everything in one pickle.
#[derive(Debug)]
pub struct Pickle {
    pub(super) nodes: Vec<Node>,
    pub(super) root: Slot,
}

impl Pickle {
    /// The value that was pickled.
    pub fn root(&self) -> Value<'_> {
        Value {
            pickle: self,
            slot: self.root,
        }
    }
}

/// A value in a pickle. Two values may contain each other: whoever follows them has to know when to stop.
#[derive(Clone, Copy)]
pub struct Value<'p> {
    pickle: &'p Pickle,
    slot: Slot,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind<'p> {
    /// `None`.
    None,
    /// A truth value.
    Bool(bool),
    /// A whole number of at most 64 bits.
    Int(i64),
    /// A larger one, in decimal or as `0x…` in two's complement, as it was written.
    BigInt(&'p str),
    /// A number.
    Float(f64),
    /// `str`.
    Text(&'p str),
    /// `bytes` or `bytearray`.
    Bytes(&'p [u8]),
    /// A list.
    List,
    /// A tuple.
    Tuple,
    /// A set, frozen or not.
    Set,
    /// A dict.
    Dict,
    /// A class or function, by name.
    Global {
        /// Its module.
        module: &'p str,
        /// Its name in there.
        name: &'p str,
    },
    /// What the program that wrote it keeps elsewhere.
    Persistent,
    /// An object of a class.
    Object,
}

impl std::fmt::Debug for Value<'_> {
    /// One level of it: a value can contain itself.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.kind().fmt(f)
    }
}

impl<'p> Value<'p> {
    fn of(self, slot: Slot) -> Self {
        Self { slot, ..self }
    }

    fn node(self) -> Option<&'p Node> {
        match self.slot {
            Slot::Node(id) => self.pickle.nodes.get(id as usize),
            _ => None,
        }
    }

    fn object(self) -> Option<&'p Object> {
        match self.node()? {
            Node::Object(object) => Some(object),
            _ => None,
        }
    }

    /// What it is.
    pub fn kind(self) -> Kind<'p> {
        match (self.slot, self.node()) {
            (Slot::Bool(value), _) => Kind::Bool(value),
            (Slot::Int(value), _) => Kind::Int(value),
            (Slot::Float(value), _) => Kind::Float(value),
            (Slot::None | Slot::Node(_), None) => Kind::None,
            (_, Some(node)) => match node {
                Node::BigInt(digits) => Kind::BigInt(digits),
                Node::Text(text) => Kind::Text(text),
                Node::Bytes(bytes) => Kind::Bytes(bytes),
                Node::List(_) => Kind::List,
                Node::Tuple(_) => Kind::Tuple,
                Node::Set(_) => Kind::Set,
                Node::Dict(_) => Kind::Dict,
                Node::Global { module, name } => Kind::Global { module, name },
                Node::Persistent(_) => Kind::Persistent,
                Node::Object(_) => Kind::Object,
            },
        }
    }

    /// The truth value that it is.
    pub fn as_bool(self) -> Option<bool> {
        match self.slot {
            Slot::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// The whole number that it is; of NumPy's too.
    pub fn as_int(self) -> Option<i64> {
        match self.slot {
            Slot::Int(value) => Some(value),
            _ => {
                let value = self.numpy_scalar()?;
                // Beyond this a float has gaps.
                (value.fract() == 0.0 && value.abs() < 9e15).then_some(value as i64)
            }
        }
    }

    /// The number that it is, whole or not; of NumPy's too.
    pub fn as_f64(self) -> Option<f64> {
        match self.slot {
            Slot::Float(value) => Some(value),
            Slot::Int(value) => Some(value as f64),
            _ => self.numpy_scalar(),
        }
    }

    fn numpy_scalar(self) -> Option<f64> {
        match NumpyArray::of(self)?.values[..] {
            [value] => Some(value),
            _ => None,
        }
    }

    /// The text that it is.
    pub fn as_text(self) -> Option<&'p str> {
        match self.node()? {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The entries of a list, tuple or set.
    pub fn items(self) -> Option<impl ExactSizeIterator<Item = Value<'p>> + 'p> {
        let items = match self.node()? {
            Node::List(items) | Node::Tuple(items) | Node::Set(items) => items,
            // A set before protocol 4 is made of a list.
            Node::Object(_) if matches!(self.class()?, ("builtins" | "__builtin__", "set" | "frozenset")) => {
                match self.args()?.item(0)?.node()? {
                    Node::List(items) => items,
                    _ => return None,
                }
            }
            _ => return None,
        };
        Some(items.iter().map(move |&slot| self.of(slot)))
    }

    /// The entry of a list or tuple.
    pub fn item(self, index: usize) -> Option<Value<'p>> {
        match self.node()? {
            Node::List(items) | Node::Tuple(items) => items.get(index).map(|&slot| self.of(slot)),
            _ => None,
        }
    }

    /// Keys and values of a dict, or of an object that is filled like one (an `OrderedDict`).
    pub fn pairs(self) -> Option<impl ExactSizeIterator<Item = (Value<'p>, Value<'p>)> + 'p> {
        let pairs = match self.node()? {
            Node::Dict(pairs) => pairs,
            Node::Object(object) if self.is_dict() || !object.pairs.is_empty() => &object.pairs,
            _ => return None,
        };
        Some(
            pairs
                .iter()
                .map(move |&(key, value)| (self.of(key), self.of(value))),
        )
    }

    fn is_dict(self) -> bool {
        let dicts = [("collections", "OrderedDict"), ("collections", "defaultdict")];
        self.class().is_some_and(|class| dicts.contains(&class))
    }

    /// What stands under a key of a dict.
    pub fn get(self, key: &str) -> Option<Value<'p>> {
        let named = self.pairs()?.filter(|(name, _)| name.as_text() == Some(key));
        // The last that was put in is the one that stays.
        named.last().map(|(_, value)| value)
    }

    /// Module and name of an object's class.
    pub fn class(self) -> Option<(&'p str, &'p str)> {
        let object = self.object()?;
        match self.of(object.class).global()? {
            // The oldest protocols make each object by this function, of its class.
            ("copyreg" | "copy_reg", "_reconstructor") => self.of(object.args).item(0)?.global(),
            class => Some(class),
        }
    }

    /// Module and name of a class or function.
    pub fn global(self) -> Option<(&'p str, &'p str)> {
        match self.node()? {
            Node::Global { module, name } => Some((module, name)),
            _ => None,
        }
    }

    /// What an object is made of: usually a tuple; where some arguments are named, a tuple of those and a dict.
    pub fn args(self) -> Option<Value<'p>> {
        Some(self.of(self.object()?.args))
    }

    /// What an object's attributes are set from: usually a dict.
    pub fn state(self) -> Option<Value<'p>> {
        Some(self.of(self.object()?.state?))
    }

    /// What says where the value is kept that the pickle itself does not hold.
    pub fn persistent(self) -> Option<Value<'p>> {
        match self.node()? {
            Node::Persistent(id) => Some(self.of(*id)),
            _ => None,
        }
    }

    /// The bytes that it is; those too that protocols before 3 write as text to be encoded in Latin-1.
    pub fn as_bytes(self) -> Option<std::borrow::Cow<'p, [u8]>> {
        match self.node()? {
            Node::Bytes(bytes) => Some(bytes.into()),
            Node::Object(_) if self.class()? == ("_codecs", "encode") => {
                let (text, encoding) = (self.args()?.item(0)?, self.args()?.item(1)?);
                if encoding.as_text()? != "latin1" {
                    return None;
                }
                let bytes = text.as_text()?.chars().map(|c| u8::try_from(u32::from(c)));
                Some(bytes.collect::<Result<Vec<u8>, _>>().ok()?.into())
            }
            _ => None,
        }
    }
}
