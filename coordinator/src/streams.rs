//! Local streams.

/// Checks a stream's name by the rule of Kinesis: 1 to 128 of `a-z A-Z 0-9 _ . -`; `.` and `..` are no names here, because streams are
/// directories.
///
/// # Errors
/// Says what a name looks like.
pub fn check_stream_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if name.is_empty()
        || name.len() > 128
        || !name.chars().all(allowed)
        || name == "."
        || name == ".."
    {
        return Err(format!(
            "`{name}` is not the name of a stream: write 1 to 128 letters, digits, `_`, `.` or `-`"
        ));
    }
    Ok(())
}
