//! Which fields a document keeps (`keep_fields`): known to the encoder, which leaves the others out, and to the
//! enrichers, so that none works for what is thrown away.

/// The fields that are kept, by dotted path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keep(Vec<String>);

impl Keep {
    /// Keeps the fields in `names`, and all below them; everything if there is no name.
    #[must_use]
    pub fn new(names: &[String]) -> Self {
        Self(names.to_vec())
    }

    /// Keeps everything.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Whether everything is kept.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the field at `path` is kept with all that is below it.
    #[must_use]
    pub fn keeps(&self, path: &str) -> bool {
        self.is_all() || path == "@timestamp" || self.0.iter().any(|name| is_at_or_below(path, name))
    }

    /// Whether the field at `path`, or something below it, is kept.
    #[must_use]
    pub fn touches(&self, path: &str) -> bool {
        self.keeps(path) || self.0.iter().any(|name| is_at_or_below(name, path))
    }
}

/// Whether the dotted `path` is `ancestor` or lies below it.
#[must_use]
pub fn is_at_or_below(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_itself_and_what_is_below_it() {
        let keep = Keep::new(&["http.request".to_owned(), "user.name".to_owned()]);
        for (path, keeps, touches) in [
            ("http.request", true, true),
            ("http.request.method", true, true),
            ("http.requests", false, false),
            ("http", false, true),
            ("user.name", true, true),
            ("user", false, true),
            ("url.path", false, false),
            ("@timestamp", true, true),
        ] {
            assert_eq!((keep.keeps(path), keep.touches(path)), (keeps, touches), "{path}");
        }
    }

    #[test]
    fn no_name_keeps_everything() {
        assert!(Keep::new(&[]).keeps("anything.at.all"));
    }
}
