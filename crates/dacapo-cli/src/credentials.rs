//! What the environment and the files of AWS programs say of object stores. Libraries read neither: it is passed
//! to them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dacapo::ObjectStore;
use dacapo::array::storage::{Credentials, ObjectStoreOptions};

/// Where it is read from.
pub struct Surroundings<'a> {
    /// A variable of the environment.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The text of a file, if it is there.
    pub file: &'a dyn Fn(&Path) -> Option<String>,
    /// The home directory.
    pub home: Option<PathBuf>,
}

impl Surroundings<'_> {
    /// How object stores are reached: by the command line's endpoint, then the options file, the environment,
    /// and the profile in `~/.aws`.
    pub fn object_store(&self, endpoint: Option<&str>, options: &ObjectStore) -> ObjectStoreOptions {
        let variable = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| (self.variable)(name).filter(|value| !value.is_empty()))
        };
        let profile = options
            .profile
            .clone()
            .or_else(|| variable(&["AWS_PROFILE"]))
            .unwrap_or_else(|| "default".to_owned());
        let said = self.profile(&profile, &variable);
        let said = |key: &str| said.get(key).cloned();
        let endpoint = endpoint
            .map(str::to_owned)
            .or_else(|| options.endpoint.clone())
            .or_else(|| variable(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]))
            .or_else(|| said("endpoint_url"));
        let region = options
            .region
            .clone()
            .or_else(|| variable(&["AWS_REGION", "AWS_DEFAULT_REGION"]))
            .or_else(|| said("region"));
        let key = |id: Option<String>, secret: Option<String>, token| {
            Some(Credentials::Key {
                id: id?,
                secret: secret?,
                token,
            })
        };
        // Who names a profile means its key.
        let of_environment = || match options.profile {
            Some(_) => None,
            None => key(
                variable(&["AWS_ACCESS_KEY_ID"]),
                variable(&["AWS_SECRET_ACCESS_KEY"]),
                variable(&["AWS_SESSION_TOKEN"]),
            ),
        };
        let of_profile = || {
            key(
                said("aws_access_key_id"),
                said("aws_secret_access_key"),
                said("aws_session_token"),
            )
        };
        let credentials = match options.credentials {
            Some(dacapo::CredentialsKind::Unsigned) => Credentials::Unsigned,
            Some(dacapo::CredentialsKind::Machine) => Credentials::Machine,
            None => of_environment().or_else(of_profile).unwrap_or_default(),
        };
        ObjectStoreOptions {
            // Nobody types `http://` by mistake.
            allow_http: endpoint.as_deref().is_some_and(|url| url.starts_with("http://")),
            endpoint,
            region,
            virtual_hosted_style: options.virtual_hosted_style,
            retries: None,
            credentials,
        }
    }

    /// What the files of AWS programs say of a profile.
    fn profile(
        &self,
        profile: &str,
        variable: &dyn Fn(&[&str]) -> Option<String>,
    ) -> BTreeMap<String, String> {
        let place = |name: &str, file: &str| {
            let named = variable(&[name]).map(PathBuf::from);
            named.or_else(|| Some(self.home.as_ref()?.join(".aws").join(file)))
        };
        let mut said = BTreeMap::new();
        for (name, file) in [
            ("AWS_CONFIG_FILE", "config"),
            ("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
        ] {
            if let Some(text) = place(name, file).and_then(|path| (self.file)(&path)) {
                said.extend(section(&text, profile));
            }
        }
        said
    }
}

/// The entries of `[profile]`, or `[profile profile]`, in an INI file.
fn section(text: &str, profile: &str) -> BTreeMap<String, String> {
    let mut is_inside = false;
    let mut entries = BTreeMap::new();
    for line in text.lines() {
        let is_indented = line.starts_with(char::is_whitespace);
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let name = name.trim();
            is_inside = name.strip_prefix("profile ").map_or(name, str::trim) == profile;
        } else if is_inside
            && !is_indented
            && let Some((key, value)) = line.split_once('=')
        {
            entries.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(
        variables: &[(&str, &str)],
        files: &[(&str, &str)],
        options: &ObjectStore,
        endpoint: Option<&str>,
    ) -> ObjectStoreOptions {
        let find = |pairs: &[(&str, &str)], key: &str| {
            let found = pairs.iter().find(|(name, _)| *name == key);
            found.map(|(_, value)| (*value).to_owned())
        };
        Surroundings {
            variable: &|name| find(variables, name),
            file: &|path| find(files, path.to_str().unwrap()),
            home: Some("/home".into()),
        }
        .object_store(endpoint, options)
    }

    fn key(id: &str, secret: &str, token: Option<&str>) -> Credentials {
        Credentials::Key {
            id: id.to_owned(),
            secret: secret.to_owned(),
            token: token.map(str::to_owned),
        }
    }

    const CREDENTIALS: &str = "\
# the usual
[default]
aws_access_key_id = a
aws_secret_access_key=b=c

[other]
aws_access_key_id = d
aws_secret_access_key = e
aws_session_token = f
";
    const CONFIG: &str = "\
[default]
region = eu-west-1
s3 =
  endpoint_url = not this
[profile other]
region = eu-north-1
endpoint_url = http://other:9000
";
    const FILES: [(&str, &str); 2] = [
        ("/home/.aws/credentials", CREDENTIALS),
        ("/home/.aws/config", CONFIG),
    ];

    #[test]
    fn without_anything_nothing_is_known() {
        let none = options(&[], &[], &ObjectStore::default(), None);
        assert_eq!(none, ObjectStoreOptions::default());
    }

    #[test]
    fn files_are_read_by_profile() {
        let default = options(&[], &FILES, &ObjectStore::default(), None);
        assert_eq!(default.credentials, key("a", "b=c", None));
        assert_eq!(default.region.as_deref(), Some("eu-west-1"));
        assert_eq!((default.endpoint, default.allow_http), (None, false));
        let other = options(&[("AWS_PROFILE", "other")], &FILES, &ObjectStore::default(), None);
        assert_eq!(other.credentials, key("d", "e", Some("f")));
        assert_eq!(other.endpoint.as_deref(), Some("http://other:9000"));
        assert!(other.allow_http);
    }

    #[test]
    fn the_environment_beats_files_and_options_beat_both() {
        let variables = [
            ("AWS_ACCESS_KEY_ID", "x"),
            ("AWS_SECRET_ACCESS_KEY", "y"),
            ("AWS_SESSION_TOKEN", ""),
            ("AWS_REGION", "r"),
            ("AWS_ENDPOINT_URL", "https://v"),
        ];
        let found = options(&variables, &FILES, &ObjectStore::default(), None);
        assert_eq!(found.credentials, key("x", "y", None));
        assert_eq!(
            (found.region.as_deref(), found.endpoint.as_deref()),
            (Some("r"), Some("https://v"))
        );
        let said = ObjectStore {
            endpoint: Some("https://o".to_owned()),
            region: Some("s".to_owned()),
            profile: Some("other".to_owned()),
            ..ObjectStore::default()
        };
        let found = options(&variables, &FILES, &said, None);
        assert_eq!(found.credentials, key("d", "e", Some("f")));
        assert_eq!(
            (found.region.as_deref(), found.endpoint.as_deref()),
            (Some("s"), Some("https://o"))
        );
        let found = options(&variables, &FILES, &said, Some("http://typed"));
        assert_eq!(
            (found.endpoint.as_deref(), found.allow_http),
            (Some("http://typed"), true)
        );
        let public = ObjectStore {
            credentials: Some(dacapo::CredentialsKind::Unsigned),
            ..ObjectStore::default()
        };
        assert_eq!(
            options(&variables, &FILES, &public, None).credentials,
            Credentials::Unsigned
        );
    }
}
