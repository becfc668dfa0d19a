//! The login that a configuration describes, with its secrets read.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::Auth;
use super::units::Secret;

/// How to log in, ready to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// Not at all.
    None,
    /// With an API key, encoded.
    ApiKey(Secret),
    /// With a name and a password.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
}

/// A secret that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct AuthError {
    /// The key that says where it is, in its section.
    pub key: &'static str,
    text: String,
}

const API_KEY_FILE: &str = "api_key_file";
const PASSWORD_FILE: &str = "password_file";

impl Auth {
    /// Whether anything is configured here.
    pub(super) fn is_given(&self) -> bool {
        self.api_key.is_some()
            || self.api_key_file.is_some()
            || self.username.is_some()
            || self.password.is_some()
            || self.password_file.is_some()
    }

    /// Reads the secrets: from the configuration itself, from files, or from systemd's credentials.
    ///
    /// # Errors
    /// A file or credential that is not there, cannot be read or is empty.
    pub fn resolve(&self) -> Result<Login, AuthError> {
        self.resolve_with(std::env::var_os("CREDENTIALS_DIRECTORY").as_deref())
    }

    fn resolve_with(&self, credentials: Option<&OsStr>) -> Result<Login, AuthError> {
        if let Some(key) = &self.api_key {
            return Ok(Login::ApiKey(key.clone()));
        }
        if let Some(file) = &self.api_key_file {
            return read(API_KEY_FILE, file, credentials).map(Login::ApiKey);
        }
        let Some(username) = self.username.clone() else { return Ok(Login::None) };
        let password = match (&self.password, &self.password_file) {
            (Some(password), _) => password.clone(),
            (None, Some(file)) => read(PASSWORD_FILE, file, credentials)?,
            (None, None) => Secret::new(String::new()),
        };
        Ok(Login::Basic { username, password })
    }
}

fn read(key: &'static str, file: &str, credentials: Option<&OsStr>) -> Result<Secret, AuthError> {
    let path = match file.strip_prefix("credential:") {
        None => PathBuf::from(file),
        Some(name) => {
            let directory = credentials.ok_or_else(|| AuthError {
                key,
                text: format!(
                    "`{file}` is a systemd credential, but CREDENTIALS_DIRECTORY is not set; add LoadCredential={name}:… to the unit"
                ),
            })?;
            Path::new(directory).join(name)
        }
    };
    let text = std::fs::read_to_string(&path)
        .map_err(|error| AuthError { key, text: format!("cannot read {}: {error}", path.display()) })?;
    // Editors end a file with a newline; it is no part of the secret.
    let secret = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if secret.is_empty() {
        return Err(AuthError { key, text: format!("{} is empty", path.display()) });
    }
    Ok(Secret::new(secret.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[test]
    fn a_secret_file_loses_its_last_newline_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, " abc\n\n").unwrap();
        let auth = Auth { api_key_file: Some(file.display().to_string()), ..Auth::default() };
        assert_eq!(auth.resolve_with(None).unwrap(), Login::ApiKey(secret(" abc\n")));
    }

    #[test]
    fn a_credential_is_a_file_in_the_directory_that_systemd_names() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("es"), "hunter2\n").unwrap();
        let auth = Auth {
            username: Some("elastic".to_owned()),
            password_file: Some("credential:es".to_owned()),
            ..Auth::default()
        };
        let login = Login::Basic { username: "elastic".to_owned(), password: secret("hunter2") };
        assert_eq!(auth.resolve_with(Some(dir.path().as_os_str())).unwrap(), login);
        assert_eq!(
            auth.resolve_with(None).unwrap_err().to_string(),
            "`credential:es` is a systemd credential, but CREDENTIALS_DIRECTORY is not set; add LoadCredential=es:… to the unit"
        );
    }

    #[test]
    fn an_empty_secret_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, "\n").unwrap();
        let auth = Auth { api_key_file: Some(file.display().to_string()), ..Auth::default() };
        let error = auth.resolve_with(None).unwrap_err();
        assert_eq!((error.key, error.to_string()), (API_KEY_FILE, format!("{} is empty", file.display())));
    }

    #[test]
    fn without_anything_there_is_no_login() {
        assert_eq!(Auth::default().resolve_with(None).unwrap(), Login::None);
    }
}
