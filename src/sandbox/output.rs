//! Reads what a program says, which may be more than fits in memory.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Longer lines are cut to so many bytes: nobody reads them.
pub const MAX_LINE: usize = 4 << 10;

/// Reads `stream` to its end and gives its last bytes, `limit` of them if there are as many. Every
/// line is shown to `on_line` as it comes.
pub async fn read_end(
    mut stream: impl AsyncRead + Unpin,
    limit: usize,
    mut on_line: impl FnMut(&str),
) -> io::Result<Vec<u8>> {
    let mut end = Vec::new();
    let mut line = Vec::new();
    let mut buffer = vec![0; 16 << 10];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            break;
        }
        end.extend_from_slice(&buffer[..length]);
        // Not at every byte over the limit, for that would move the rest each time.
        if end.len() > 2 * limit + buffer.len() {
            end.drain(..end.len() - limit);
        }
        for part in buffer[..length].split_inclusive(|byte| *byte == b'\n') {
            let room = MAX_LINE.saturating_sub(line.len());
            line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                on_line(String::from_utf8_lossy(&line).trim_end());
                line.clear();
            }
        }
    }
    if !line.is_empty() {
        on_line(String::from_utf8_lossy(&line).trim_end());
    }
    end.drain(..end.len().saturating_sub(limit));
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], limit: usize) -> (Vec<u8>, Vec<String>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut lines = Vec::new();
        let end = runtime.block_on(read_end(text, limit, |line| lines.push(line.to_owned()))).unwrap();
        (end, lines)
    }

    #[test]
    fn the_end_is_kept_and_every_line_shown() {
        let (end, lines) = read(b"one\ntwo\nthree", 7);

        assert_eq!(end, b"o\nthree");
        assert_eq!(lines, ["one", "two", "three"]);
    }

    #[test]
    fn a_flood_takes_no_more_than_its_share() {
        let flood = b"0123456789abcdef".repeat(1 << 16);

        let (end, lines) = read(&flood, 32);

        assert_eq!(end, b"0123456789abcdef0123456789abcdef");
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].len(), MAX_LINE);
    }
}
