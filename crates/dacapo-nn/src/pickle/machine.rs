//! The stack machine that a pickle is a program for, with everything left out that does something: where Python
//! would call, an object is noted. Time and memory are bounded by the length of the pickle and by fixed limits.

use std::collections::HashMap;

use super::opcode::{self as op, name};
use super::text;
use super::value::{Node, Object, Pickle, Slot};
use crate::{Error, Result};

/// Bytes that the values of one pickle may take: millions of records.
const MOST_MEMORY: usize = 1 << 29;
/// Values that may wait to be put somewhere.
const MOST_WAITING: usize = 1 << 24;
/// How deep lists and the like may be nested while they are read.
const DEEPEST: usize = 1 << 20;

/// Reads the first pickle in `bytes`, of protocol 0 to 5. What follows it is left alone.
///
/// # Errors
/// [`Error::Pickle`], with the offset and the opcode, if the bytes are no whole pickle, ask for more memory than
/// a record of a training can need, or refer to what only the program that wrote them has.
pub fn read(bytes: &[u8]) -> Result<Pickle> {
    let mut machine = Machine {
        bytes,
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        nodes: Vec::new(),
        memory: 0,
    };
    loop {
        let offset = machine.at;
        let fail = |opcode, reason: String| Error::Pickle {
            offset,
            opcode,
            reason,
        };
        let code = machine.byte().map_err(|reason| fail("the next opcode", reason))?;
        let opcode =
            name(code).ok_or_else(|| fail("an opcode", format!("there is none of byte {code:#04x}")))?;
        if let Some(root) = machine.step(code).map_err(|reason| fail(opcode, reason))? {
            return Ok(Pickle {
                nodes: machine.nodes,
                root,
            });
        }
    }
}

struct Machine<'b> {
    bytes: &'b [u8],
    at: usize,
    stack: Vec<Slot>,
    /// How much of the stack stood below each mark.
    marks: Vec<usize>,
    memo: HashMap<u32, Slot>,
    nodes: Vec<Node>,
    memory: usize,
}

/// An error says what is wrong; where it is wrong is added outside.
type Step<T> = std::result::Result<T, String>;

impl<'b> Machine<'b> {
    fn byte(&mut self) -> Step<u8> {
        Ok(self.take(1)?[0])
    }

    fn take(&mut self, length: usize) -> Step<&'b [u8]> {
        let left = &self.bytes[self.at..];
        let taken = left
            .get(..length)
            .ok_or_else(|| format!("it needs {length} more bytes, and {} are left", left.len()))?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn length8(&mut self) -> Step<usize> {
        let length = u64::from_le_bytes(self.array()?);
        usize::try_from(length).map_err(|_| format!("a length of {length} bytes"))
    }

    fn length4(&mut self) -> Step<usize> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    /// Up to the end of the line.
    fn line(&mut self) -> Step<&'b [u8]> {
        let end = self.bytes[self.at..].iter().position(|&byte| byte == b'\n');
        let line = self.take(end.ok_or("its line does not end")?)?;
        self.at += 1;
        Ok(line.strip_suffix(b"\r").unwrap_or(line))
    }

    fn text_line(&mut self) -> Step<&'b str> {
        std::str::from_utf8(self.line()?).map_err(|_| "its line is not UTF-8".to_owned())
    }

    fn utf8(&mut self, length: usize) -> Step<String> {
        let text = std::str::from_utf8(self.take(length)?);
        text.map(str::to_owned)
            .map_err(|_| "its text is not UTF-8".to_owned())
    }

    fn charge(&mut self, bytes: usize) -> Step<()> {
        self.memory = self.memory.saturating_add(bytes);
        if self.memory > MOST_MEMORY {
            return Err(format!("its values take more than {MOST_MEMORY} bytes"));
        }
        Ok(())
    }

    fn push(&mut self, slot: Slot) -> Step<()> {
        if self.stack.len() >= MOST_WAITING {
            return Err(format!("more than {MOST_WAITING} values wait on its stack"));
        }
        self.stack.push(slot);
        Ok(())
    }

    fn push_node(&mut self, node: Node) -> Step<()> {
        let inside = match &node {
            Node::BigInt(text) | Node::Text(text) => text.len(),
            Node::Bytes(bytes) => bytes.len(),
            Node::List(items) | Node::Tuple(items) | Node::Set(items) => size_of_val(&items[..]),
            Node::Dict(pairs) => size_of_val(&pairs[..]),
            Node::Global { module, name } => module.len() + name.len(),
            Node::Persistent(_) => 0,
            Node::Object(_) => size_of::<Object>(),
        };
        self.charge(size_of::<Node>() + inside)?;
        let id = u32::try_from(self.nodes.len()).map_err(|_| "there are too many values")?;
        self.nodes.push(node);
        self.push(Slot::Node(id))
    }

    /// The first place that may be popped: what lies below the last mark may not.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Step<Slot> {
        if self.stack.len() <= self.floor() {
            return Err("there is no value for it".to_owned());
        }
        self.stack
            .pop()
            .ok_or_else(|| "there is no value for it".to_owned())
    }

    fn top(&mut self) -> Step<Slot> {
        let top = self.pop()?;
        self.stack.push(top);
        Ok(top)
    }

    /// All values above the last mark, which goes.
    fn pop_mark(&mut self) -> Step<Vec<Slot>> {
        let mark = self.marks.pop().ok_or("there is no mark for it")?;
        Ok(self.stack.split_off(mark))
    }

    fn pop_pairs(&mut self) -> Step<Vec<(Slot, Slot)>> {
        let items = self.pop_mark()?;
        let (pairs, []) = items.as_chunks::<2>() else {
            return Err("a key has no value".to_owned());
        };
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    }

    fn tuple(&mut self, length: usize) -> Step<()> {
        let mut items = Vec::with_capacity(length);
        for _ in 0..length {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push_node(Node::Tuple(items))
    }

    fn object(&mut self, class: Slot, args: Slot) -> Step<()> {
        self.push_node(Node::Object(Box::new(Object {
            class,
            args,
            state: None,
            items: Vec::new(),
            pairs: Vec::new(),
        })))
    }

    /// An object whose arguments stand on the stack above a mark.
    fn object_of(&mut self, class: Slot, args: Vec<Slot>) -> Step<()> {
        self.push_node(Node::Tuple(args))?;
        let args = self.pop()?;
        self.object(class, args)
    }

    fn global(&mut self, module: &str, name: &str) -> Step<()> {
        self.push_node(Node::Global {
            module: module.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Old strings are bytes that mean text where they can.
    fn old_string(&mut self, bytes: Vec<u8>) -> Step<()> {
        self.push_node(match String::from_utf8(bytes) {
            Ok(text) => Node::Text(text),
            Err(error) => Node::Bytes(error.into_bytes()),
        })
    }

    fn long(&mut self, bytes: &[u8]) -> Step<()> {
        if bytes.len() <= 8 {
            let fill = if bytes.last().is_some_and(|&last| last >= 0x80) {
                0xff
            } else {
                0
            };
            let mut value = [fill; 8];
            value[..bytes.len()].copy_from_slice(bytes);
            return self.push(Slot::Int(i64::from_le_bytes(value)));
        }
        let mut digits = "0x".to_owned();
        digits.extend(bytes.iter().rev().map(|byte| format!("{byte:02x}")));
        self.push_node(Node::BigInt(digits))
    }

    fn decimal(&mut self, text: &str) -> Step<()> {
        let text = text.trim();
        if let Ok(value) = text.parse() {
            return self.push(Slot::Int(value));
        }
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("{text:?} is no whole number"));
        }
        self.push_node(Node::BigInt(text.to_owned()))
    }

    fn put(&mut self, place: u32) -> Step<()> {
        let top = self.top()?;
        if self.memo.insert(place, top).is_none() {
            self.charge(2 * size_of::<(u32, Slot)>())?;
        }
        Ok(())
    }

    fn get(&mut self, place: u32) -> Step<()> {
        let value = self.memo.get(&place).copied();
        self.push(value.ok_or_else(|| format!("nothing was kept as {place}"))?)
    }

    /// The place that a line names.
    fn place(&mut self) -> Step<u32> {
        let line = self.text_line()?;
        line.trim().parse().map_err(|_| format!("{line:?} is no place"))
    }

    fn append(&mut self, to: Slot, items: Vec<Slot>) -> Step<()> {
        self.charge(size_of_val(&items[..]))?;
        match self.node(to) {
            Some(Node::List(list) | Node::Set(list)) => list.extend(items),
            Some(Node::Object(object)) => object.items.extend(items),
            _ => return Err("what it would append to is no list".to_owned()),
        }
        Ok(())
    }

    fn set_items(&mut self, to: Slot, pairs: Vec<(Slot, Slot)>) -> Step<()> {
        self.charge(size_of_val(&pairs[..]))?;
        match self.node(to) {
            Some(Node::Dict(dict)) => dict.extend(pairs),
            Some(Node::Object(object)) => object.pairs.extend(pairs),
            _ => return Err("what it would put keys into is no dict".to_owned()),
        }
        Ok(())
    }

    fn node(&mut self, slot: Slot) -> Option<&mut Node> {
        match slot {
            Slot::Node(id) => self.nodes.get_mut(id as usize),
            _ => None,
        }
    }

    /// Does one opcode. Returns the value of the pickle at its end.
    fn step(&mut self, code: u8) -> Step<Option<Slot>> {
        match code {
            op::STOP => {
                let root = self.pop()?;
                if !self.stack.is_empty() || !self.marks.is_empty() {
                    return Err("more than one value is left".to_owned());
                }
                return Ok(Some(root));
            }
            op::PROTO => {
                let protocol = self.byte()?;
                if protocol > 5 {
                    return Err(format!("protocol {protocol} is not known, only 0 to 5"));
                }
            }
            op::FRAME => {
                let (length, left) = (self.length8()?, self.bytes.len() - self.at);
                if length > left {
                    return Err(format!("a frame of {length} bytes, and {left} are left"));
                }
            }
            // The stack.
            op::MARK => {
                if self.marks.len() >= DEEPEST {
                    return Err(format!("it is nested deeper than {DEEPEST}"));
                }
                self.marks.push(self.stack.len());
            }
            op::POP => {
                if self.stack.len() > self.floor() {
                    self.stack.pop();
                } else {
                    self.marks.pop().ok_or("there is no value for it")?;
                }
            }
            op::POP_MARK => drop(self.pop_mark()?),
            op::DUP => {
                let top = self.top()?;
                self.push(top)?;
            }
            // What was seen before.
            op::PUT => {
                let place = self.place()?;
                self.put(place)?;
            }
            op::BINPUT => {
                let place = self.byte()?.into();
                self.put(place)?;
            }
            op::LONG_BINPUT => {
                let place = u32::from_le_bytes(self.array()?);
                self.put(place)?;
            }
            op::MEMOIZE => {
                let place = u32::try_from(self.memo.len()).map_err(|_| "too much is kept")?;
                self.put(place)?;
            }
            op::GET => {
                let place = self.place()?;
                self.get(place)?;
            }
            op::BINGET => {
                let place = self.byte()?.into();
                self.get(place)?;
            }
            op::LONG_BINGET => {
                let place = u32::from_le_bytes(self.array()?);
                self.get(place)?;
            }
            op::NONE | op::NEWTRUE | op::NEWFALSE => self.push(match code {
                op::NEWTRUE => Slot::Bool(true),
                op::NEWFALSE => Slot::Bool(false),
                _ => Slot::None,
            })?,
            op::INT
            | op::LONG
            | op::FLOAT
            | op::BININT
            | op::BININT1
            | op::BININT2
            | op::LONG1
            | op::LONG4
            | op::BINFLOAT => self.number(code)?,
            op::STRING
            | op::BINSTRING
            | op::SHORT_BINSTRING
            | op::UNICODE
            | op::BINUNICODE
            | op::SHORT_BINUNICODE
            | op::BINUNICODE8
            | op::BINBYTES
            | op::SHORT_BINBYTES
            | op::BINBYTES8
            | op::BYTEARRAY8 => self.texts(code)?,
            op::EMPTY_LIST
            | op::LIST
            | op::APPEND
            | op::APPENDS
            | op::EMPTY_TUPLE
            | op::TUPLE
            | op::TUPLE1
            | op::TUPLE2
            | op::TUPLE3
            | op::EMPTY_DICT
            | op::DICT
            | op::SETITEM
            | op::SETITEMS
            | op::EMPTY_SET
            | op::ADDITEMS
            | op::FROZENSET => self.containers(code)?,
            op::EXT1 | op::EXT2 | op::EXT4 => {
                return Err("it names a class by a number of the program that wrote it".to_owned());
            }
            op::NEXT_BUFFER | op::READONLY_BUFFER => {
                return Err("it refers to a buffer outside of the pickle".to_owned());
            }
            _ => self.objects(code)?,
        }
        Ok(None)
    }

    fn number(&mut self, code: u8) -> Step<()> {
        match code {
            op::INT => match self.text_line()? {
                "00" => self.push(Slot::Bool(false)),
                "01" => self.push(Slot::Bool(true)),
                text => self.decimal(text),
            },
            op::LONG => {
                let text = self.text_line()?;
                self.decimal(text.strip_suffix('L').unwrap_or(text))
            }
            op::FLOAT => {
                let text = self.text_line()?;
                let value = text.trim().parse();
                self.push(Slot::Float(value.map_err(|_| format!("{text:?} is no number"))?))
            }
            op::BINFLOAT => {
                let value = f64::from_be_bytes(self.array()?);
                self.push(Slot::Float(value))
            }
            op::BININT1 => {
                let value = self.byte()?;
                self.push(Slot::Int(value.into()))
            }
            op::BININT2 => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Slot::Int(value.into()))
            }
            op::BININT => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Slot::Int(value.into()))
            }
            _ => {
                let length = if code == op::LONG1 {
                    self.byte()?.into()
                } else {
                    self.length4()?
                };
                let bytes = self.take(length)?;
                self.long(bytes)
            }
        }
    }

    fn texts(&mut self, code: u8) -> Step<()> {
        match code {
            op::STRING => {
                let bytes = text::string_literal(self.line()?).ok_or("its text has no quotes")?;
                self.old_string(bytes)
            }
            op::UNICODE => {
                let text = text::raw_unicode(self.line()?).ok_or("its text is not Unicode")?;
                self.push_node(Node::Text(text))
            }
            op::BINSTRING | op::SHORT_BINSTRING => {
                let length = if code == op::BINSTRING {
                    self.length4()?
                } else {
                    self.byte()?.into()
                };
                let bytes = self.take(length)?.to_vec();
                self.old_string(bytes)
            }
            op::SHORT_BINUNICODE | op::BINUNICODE | op::BINUNICODE8 => {
                let length = match code {
                    op::SHORT_BINUNICODE => self.byte()?.into(),
                    op::BINUNICODE => self.length4()?,
                    _ => self.length8()?,
                };
                let text = self.utf8(length)?;
                self.push_node(Node::Text(text))
            }
            _ => {
                let length = match code {
                    op::SHORT_BINBYTES => self.byte()?.into(),
                    op::BINBYTES => self.length4()?,
                    _ => self.length8()?,
                };
                let bytes = self.take(length)?.to_vec();
                self.push_node(Node::Bytes(bytes))
            }
        }
    }

    fn containers(&mut self, code: u8) -> Step<()> {
        match code {
            op::EMPTY_LIST => self.push_node(Node::List(Vec::new())),
            op::EMPTY_TUPLE => self.push_node(Node::Tuple(Vec::new())),
            op::EMPTY_DICT => self.push_node(Node::Dict(Vec::new())),
            op::EMPTY_SET => self.push_node(Node::Set(Vec::new())),
            op::LIST => {
                let items = self.pop_mark()?;
                self.push_node(Node::List(items))
            }
            op::TUPLE => {
                let items = self.pop_mark()?;
                self.push_node(Node::Tuple(items))
            }
            op::FROZENSET => {
                let items = self.pop_mark()?;
                self.push_node(Node::Set(items))
            }
            op::DICT => {
                let pairs = self.pop_pairs()?;
                self.push_node(Node::Dict(pairs))
            }
            op::TUPLE1 => self.tuple(1),
            op::TUPLE2 => self.tuple(2),
            op::TUPLE3 => self.tuple(3),
            op::APPEND => {
                let item = self.pop()?;
                let list = self.top()?;
                self.append(list, vec![item])
            }
            op::APPENDS | op::ADDITEMS => {
                let items = self.pop_mark()?;
                let list = self.top()?;
                self.append(list, items)
            }
            op::SETITEM => {
                let (value, key) = (self.pop()?, self.pop()?);
                let dict = self.top()?;
                self.set_items(dict, vec![(key, value)])
            }
            _ => {
                let pairs = self.pop_pairs()?;
                let dict = self.top()?;
                self.set_items(dict, pairs)
            }
        }
    }

    fn objects(&mut self, code: u8) -> Step<()> {
        match code {
            op::GLOBAL => {
                let (module, name) = (self.text_line()?, self.text_line()?);
                self.global(module, name)
            }
            op::STACK_GLOBAL => {
                let (name, module) = (self.pop()?, self.pop()?);
                let mut text = |slot| match self.node(slot) {
                    Some(Node::Text(text)) => Ok(text.clone()),
                    _ => Err("a class is not named by text"),
                };
                let (module, name) = (text(module)?, text(name)?);
                self.global(&module, &name)
            }
            op::PERSID => {
                let id = self.text_line()?.to_owned();
                self.push_node(Node::Text(id))?;
                let id = self.pop()?;
                self.push_node(Node::Persistent(id))
            }
            op::BINPERSID => {
                let id = self.pop()?;
                self.push_node(Node::Persistent(id))
            }
            op::REDUCE | op::NEWOBJ => {
                let (args, class) = (self.pop()?, self.pop()?);
                self.object(class, args)
            }
            op::NEWOBJ_EX => {
                let (named, args, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.object_of(class, vec![args, named])
            }
            op::INST => {
                let (module, name) = (self.text_line()?, self.text_line()?);
                let args = self.pop_mark()?;
                self.global(module, name)?;
                let class = self.pop()?;
                self.object_of(class, args)
            }
            op::OBJ => {
                let mut args = self.pop_mark()?;
                if args.is_empty() {
                    return Err("there is no class for it".to_owned());
                }
                let class = args.remove(0);
                self.object_of(class, args)
            }
            op::BUILD => {
                let state = self.pop()?;
                let object = self.top()?;
                match self.node(object) {
                    Some(Node::Object(object)) => object.state = Some(state),
                    _ => return Err("what it would build is no object".to_owned()),
                }
                Ok(())
            }
            _ => Err("this opcode is not read".to_owned()),
        }
    }
}
