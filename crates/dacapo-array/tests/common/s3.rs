//! An S3 service of one bucket, in memory, that fails as it is told to: as much of the protocol as the client speaks.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// How a request fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// 503, and nothing is done.
    Busy,
    /// Nothing is done, nothing answered, and the connection is gone.
    Dropped,
    /// It is done, and the connection is gone before the answer.
    Lost,
    /// It is done, and the connection is gone in the middle of the answer.
    Cut,
    /// It is done, and answered late.
    Slow,
}

struct Object {
    bytes: Vec<u8>,
    tag: String,
    /// `x-amz-meta-…`.
    metadata: Vec<(String, String)>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Object>,
    tags: usize,
    requests: usize,
    /// The first request that fails, how many do, and how.
    fault: Option<(usize, usize, Fault)>,
}

/// Serves until the test's process ends.
pub struct S3 {
    /// `http://127.0.0.1:port`.
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

/// In the future, so that nothing is old.
const MODIFIED: [&str; 2] = ["Fri, 01 Jan 2100 00:00:00 GMT", "2100-01-01T00:00:00.000Z"];

impl S3 {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = shared.clone();
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Self { endpoint, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Forgets its requests; of those that come now, `count` fail from number `first` on.
    pub fn fail(&self, first: usize, count: usize, fault: Fault) {
        let mut state = self.state();
        state.requests = 0;
        state.fault = Some((first, count, fault));
    }

    /// Fails no more.
    pub fn heal(&self) {
        self.state().fault = None;
    }

    /// Requests since it was told how to fail.
    pub fn requests(&self) -> usize {
        self.state().requests
    }

    /// What there is.
    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        let objects = state.objects.iter();
        objects
            .map(|(key, object)| (key.clone(), object.bytes.clone()))
            .collect()
    }
}

struct Request {
    method: String,
    /// Below the bucket.
    key: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

struct Answer {
    status: &'static str,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// Answers one request; whoever asks may go away at any time.
fn serve(mut stream: TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let fault = {
        let mut state = state.lock().unwrap();
        let number = state.requests;
        state.requests += 1;
        let is_meant = |(first, count, _): &(usize, usize, Fault)| {
            (*first..first.saturating_add(*count)).contains(&number)
        };
        state.fault.filter(is_meant).map(|(_, _, fault)| fault)
    };
    if fault == Some(Fault::Dropped) {
        return None;
    }
    let length = headers.get("content-length").map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    });
    let request = Request {
        method,
        key: decoded(path.strip_prefix("/lab")?.trim_start_matches('/')),
        query: query.collect(),
        headers,
        body,
    };
    let answer = if fault == Some(Fault::Busy) {
        Answer::new("503 Slow Down", "")
    } else {
        state.lock().unwrap().answer(&request)
    };
    match fault {
        Some(Fault::Lost) => return None,
        Some(Fault::Slow) => std::thread::sleep(Duration::from_millis(300)),
        _ => {}
    }
    let mut head = format!(
        "HTTP/1.1 {}\r\nContent-Length: {}\r\nConnection: close\r\n",
        answer.status,
        answer.body.len()
    );
    for (name, value) in &answer.headers {
        write!(head, "{name}: {value}\r\n").ok()?;
    }
    let text = if request.method == "HEAD" {
        &[][..]
    } else {
        &answer.body[..]
    };
    let message = [head.as_bytes(), b"\r\n", text].concat();
    let end = if fault == Some(Fault::Cut) {
        message.len() - 1 - text.len() / 2
    } else {
        message.len()
    };
    stream.write_all(&message[..end]).ok()
}

impl State {
    fn answer(&mut self, request: &Request) -> Answer {
        let header = |name: &str| request.headers.get(name);
        let present = self.objects.get(&request.key);
        let missing = || Answer::new("404 Not Found", "<Error><Code>NoSuchKey</Code></Error>");
        let conflict = || Answer::new("412 Precondition Failed", "");
        match request.method.as_str() {
            "GET" if request.query.contains_key("list-type") => self.list(&request.query),
            "GET" | "HEAD" => {
                let Some(object) = present else { return missing() };
                if header("if-match").is_some_and(|tag| *tag != object.tag) {
                    return conflict();
                }
                let total = object.bytes.len();
                let range = header("range").map(|range| {
                    let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
                    first.parse().unwrap()..last.parse::<usize>().unwrap() + 1
                });
                let mut answer = match range {
                    Some(range) => Answer::new("206 Partial Content", &object.bytes[range.clone()]).with(
                        "Content-Range",
                        format!("bytes {}-{}/{total}", range.start, range.end - 1),
                    ),
                    None => Answer::new("200 OK", object.bytes.clone()),
                };
                answer.headers.extend(object.metadata.iter().cloned());
                answer
                    .with("ETag", &object.tag)
                    .with("Last-Modified", MODIFIED[0])
            }
            "PUT" => {
                let is_refused = header("if-none-match").is_some() && present.is_some()
                    || header("if-match").is_some_and(|tag| present.is_none_or(|object| object.tag != *tag));
                if is_refused {
                    return conflict();
                }
                let metadata = request
                    .headers
                    .iter()
                    .filter(|(name, _)| name.starts_with("x-amz-meta-"));
                let (mut bytes, mut body) = (request.body.clone(), String::new());
                if let Some(source) = header("x-amz-copy-source") {
                    let source = decoded(source);
                    let source = source.trim_start_matches('/').strip_prefix("lab/").unwrap();
                    let Some(object) = self.objects.get(source) else {
                        return missing();
                    };
                    bytes.clone_from(&object.bytes);
                    body = format!(
                        "<CopyObjectResult><ETag>\"copied\"</ETag><LastModified>{}</LastModified></CopyObjectResult>",
                        MODIFIED[1]
                    );
                }
                self.tags += 1;
                let tag = format!("\"{}\"", self.tags);
                let object = Object {
                    bytes,
                    tag: tag.clone(),
                    metadata: metadata
                        .map(|(name, value)| (name.clone(), value.clone()))
                        .collect(),
                };
                self.objects.insert(request.key.clone(), object);
                Answer::new("200 OK", body).with("ETag", tag)
            }
            "POST" => {
                let text = String::from_utf8(request.body.clone()).unwrap();
                let mut body = "<DeleteResult>".to_owned();
                for part in text.split("<Key>").skip(1) {
                    let key = part.split("</Key>").next().unwrap();
                    self.objects.remove(key);
                    write!(body, "<Deleted><Key>{key}</Key></Deleted>").unwrap();
                }
                Answer::new("200 OK", body + "</DeleteResult>")
            }
            _ => Answer::new("405 Method Not Allowed", ""),
        }
    }

    fn list(&self, query: &BTreeMap<String, String>) -> Answer {
        let prefix = query.get("prefix").map_or("", String::as_str);
        let mut text = "<ListBucketResult><IsTruncated>false</IsTruncated>".to_owned();
        let mut prefixes = std::collections::BTreeSet::new();
        for (key, object) in &self.objects {
            let Some(rest) = key.strip_prefix(prefix) else {
                continue;
            };
            if let (Some((inner, _)), true) = (rest.split_once('/'), query.contains_key("delimiter")) {
                prefixes.insert(format!("{prefix}{inner}/"));
                continue;
            }
            write!(
                text,
                "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
                escaped(key),
                MODIFIED[1],
                object.tag,
                object.bytes.len()
            )
            .unwrap();
        }
        for prefix in prefixes {
            let prefix = escaped(&prefix);
            write!(text, "<CommonPrefixes><Prefix>{prefix}</Prefix></CommonPrefixes>").unwrap();
        }
        Answer::new("200 OK", text + "</ListBucketResult>")
    }
}
