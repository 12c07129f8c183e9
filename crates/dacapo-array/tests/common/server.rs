//! A web server that gives out the files of a folder, as simple ones do: GET, HEAD, ranges, a page for a folder.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Serves until the test's process ends.
pub struct Server {
    /// `http://127.0.0.1:port`.
    pub url: String,
    failing: Arc<AtomicUsize>,
}

impl Server {
    /// Gives out what is in `folder`.
    pub fn of(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let failing = Arc::new(AtomicUsize::new(0));
        let (folder, fails) = (folder.to_owned(), failing.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (folder, fails) = (folder.clone(), fails.clone());
                std::thread::spawn(move || answer(stream, &folder, &fails));
            }
        });
        Self { url, failing }
    }

    /// The next so many requests are answered by 503: try again.
    pub fn fail(&self, requests: usize) {
        self.failing.store(requests, Ordering::SeqCst);
    }

    /// How many of them are still to come.
    pub fn still_failing(&self) -> usize {
        self.failing.load(Ordering::SeqCst)
    }
}

/// Answers one request; whoever asks may go away at any time.
fn answer(mut stream: TcpStream, folder: &Path, fails: &AtomicUsize) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?)
        .lines()
        .map_while(Result::ok);
    let first = lines.next()?;
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let (method, path) = first.strip_suffix(" HTTP/1.1")?.split_once(" /")?;
    let path: PathBuf = folder.join(path.replace("%20", " "));
    let range = headers.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let (begin, end) = value.strip_prefix("bytes=")?.split_once('-')?;
        let is_range = name.eq_ignore_ascii_case("range");
        is_range.then_some((begin.parse::<usize>().ok()?, end.parse::<usize>().ok()?))
    });
    let is_failing = fails.try_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
    let (status, body) = match std::fs::read(&path) {
        _ if is_failing.is_ok() => ("503 Service Unavailable", Vec::new()),
        _ if !matches!(method, "GET" | "HEAD") => ("405 Method Not Allowed", Vec::new()),
        _ if path.is_dir() => ("200 OK", b"<html>a folder</html>".to_vec()),
        Err(_) => ("404 Not Found", b"nothing".to_vec()),
        Ok(bytes) => match range {
            Some((begin, end)) => (
                "206 Partial Content",
                bytes[begin..=end.min(bytes.len() - 1)].to_vec(),
            ),
            None => ("200 OK", bytes),
        },
    };
    let place = match range {
        Some((begin, _)) if status.starts_with("206") => {
            let total = std::fs::metadata(&path).ok()?.len();
            format!(
                "Content-Range: bytes {begin}-{}/{total}\r\n",
                begin + body.len() - 1
            )
        }
        _ => String::new(),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"1\"\r\n{place}Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    if method == "GET" {
        stream.write_all(&body).ok()?;
    }
    Some(())
}
