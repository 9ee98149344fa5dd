//! What is kept of an answer's head for what comes after it: where a redirect leads, and cookies.
//!
//! HTTP/1.1 and HTTP/2 show it the header lines of the final answer. One that wants nothing costs a look at a word; what was found
//! takes memory only where there was something.

/// The lines of an answer's head that somebody wants.
#[derive(Debug, Default)]
pub struct Kept {
    wants_location: bool,
    wants_cookies: bool,
    found: Option<Box<Found>>,
}

#[derive(Debug, Default)]
struct Found {
    location: Option<Box<[u8]>>,
    cookies: Vec<Box<[u8]>>,
}

impl Kept {
    /// Keeps what is wanted of the next answer, and forgets the last one's.
    pub fn new(wants_location: bool, wants_cookies: bool) -> Self {
        Self { wants_location, wants_cookies, found: None }
    }

    /// Whether it is worth showing it anything.
    #[inline]
    pub fn wants_any(&self) -> bool {
        self.wants_location || self.wants_cookies
    }

    /// Whether anything was found.
    #[inline]
    pub fn has_any(&self) -> bool {
        self.found.is_some()
    }

    /// A header line of the final answer, its name in any case.
    pub fn take(&mut self, name: &[u8], value: &[u8]) {
        match name.len() {
            8 if self.wants_location && name.eq_ignore_ascii_case(b"location") => {
                // Of several the first: they should not be.
                self.found.get_or_insert_default().location.get_or_insert_with(|| value.trim_ascii().into());
            }
            10 if self.wants_cookies && name.eq_ignore_ascii_case(b"set-cookie") => {
                self.found.get_or_insert_default().cookies.push(value.into());
            }
            _ => {}
        }
    }

    /// Where the answer leads.
    pub fn location(&self) -> Option<&[u8]> {
        self.found.as_ref()?.location.as_deref()
    }

    /// The lines of `set-cookie`, in order.
    pub fn cookies(&self) -> impl Iterator<Item = &[u8]> {
        self.found.iter().flat_map(|found| found.cookies.iter().map(AsRef::as_ref))
    }
}
