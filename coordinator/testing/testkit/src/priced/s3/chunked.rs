//! The `aws-chunked` content encoding.

use bytes::{Bytes, BytesMut};

/// Decodes a body. Returns the content, and the value of a trailer. `None` if it ends early.
pub(super) fn decode(body: &[u8], trailer: &str) -> Option<(Bytes, Option<String>)> {
    let mut content = BytesMut::new();
    let mut rest = body;
    loop {
        let line = take_line(&mut rest)?;
        let size = line.split(';').next()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            break;
        }
        content.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
    let mut value = None;
    while let Some(line) = take_line(&mut rest) {
        if let Some((name, text)) = line.split_once(':')
            && name.eq_ignore_ascii_case(trailer)
        {
            value = Some(text.trim().to_owned());
        }
    }
    Some((content.freeze(), value))
}

fn take_line<'b>(rest: &mut &'b [u8]) -> Option<&'b str> {
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let line = std::str::from_utf8(&rest[..end]).ok()?;
    *rest = &rest[end + 2..];
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_and_the_trailer_is_found() {
        let body = b"3;chunk-signature=x\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 1==\r\n\r\n";
        let (content, sum) = decode(body, "x-sum").unwrap();
        assert_eq!((&content[..], sum.as_deref()), (&b"abcde"[..], Some("1==")));
        assert_eq!(decode(&body[..25], "x-sum"), None);
    }
}
