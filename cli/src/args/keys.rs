//! Arguments of `barge key`, and the access key that the other verbs send.

use std::str::FromStr;

use clap::{Subcommand, ValueEnum};
use http::header::HeaderValue;
use shared::access::{AccessKeyId, AccessSecret, AccessSecretError, Permission, Scope};

use super::SecretArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Create an access key; its secret is shown only once
    Create(KeyCreateArgs),
    /// Show the access keys, without their secrets
    List(KeyListArgs),
    /// Revoke an access key, immediately and on all masters
    Revoke(KeyRevokeArgs),
    /// Let anyone read the values of a bucket without an access key
    Anonymous(KeyAnonymousArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct KeyAnonymousArgs {
    /// The bucket whose anonymous access is changed
    pub(crate) bucket: String,
    /// Require an access key again
    #[arg(long)]
    pub(crate) off: bool,
    #[command(flatten)]
    pub(crate) signing: SecretArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct KeyCreateArgs {
    /// What it permits: read (get and list), write (also store and delete), admin (also configure)
    #[arg(long, value_enum, default_value_t = PermissionArg::Write)]
    pub(crate) permission: PermissionArg,
    /// The keys it is valid for: those below BUCKET/, or those that begin with BUCKET/PREFIX (end a folder with a
    /// slash) [default: all]
    #[arg(long, value_name = "BUCKET[/PREFIX]")]
    pub(crate) scope: Option<Scope>,
    /// A note to recognize it by
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) note: String,
    /// An id to use instead of a generated one; replaces the access key that has it
    #[arg(long, requires = "secret")]
    pub(crate) id: Option<AccessKeyId>,
    /// A secret to use instead of a generated one, of at least 16 characters
    #[arg(long, requires = "id", env = "BARGE_NEW_SECRET", hide_env_values = true, value_parser = chosen_secret)]
    pub(crate) secret: Option<AccessSecret>,
    #[command(flatten)]
    pub(crate) signing: SecretArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct KeyListArgs {
    #[command(flatten)]
    pub(crate) signing: SecretArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct KeyRevokeArgs {
    /// The access key's id
    pub(crate) id: AccessKeyId,
    #[command(flatten)]
    pub(crate) signing: SecretArgs,
}

/// Parses a secret chosen by the user.
fn chosen_secret(text: &str) -> Result<AccessSecret, String> {
    let secret: AccessSecret = text.parse().map_err(|e: AccessSecretError| e.to_string())?;
    secret.chosen().map_err(|e| e.to_string())
}

/// `Permission`, as a command-line value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PermissionArg {
    Read,
    Write,
    Admin,
}

impl From<PermissionArg> for Permission {
    fn from(arg: PermissionArg) -> Self {
        match arg {
            PermissionArg::Read => Self::Read,
            PermissionArg::Write => Self::Write,
            PermissionArg::Admin => Self::Admin,
        }
    }
}

/// The access key that the verbs send, to masters only.
#[derive(Clone, Debug)]
pub(crate) struct ShownKey {
    id: AccessKeyId,
    secret: AccessSecret,
}

impl ShownKey {
    /// Returns the Authorization header, marked sensitive so that it is not printed.
    pub(crate) fn header(&self) -> HeaderValue {
        let text = format!("Bearer {}:{}", self.id, self.secret.expose());
        let mut value = HeaderValue::from_str(&text).expect("printable ASCII is a header value");
        value.set_sensitive(true);
        value
    }
}

impl FromStr for ShownKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, secret) = text.split_once(':').ok_or("expected ID:SECRET")?;
        let id = id.parse().map_err(|e| format!("{e}"))?;
        Ok(Self { id, secret: secret.parse().map_err(|e| format!("{e}"))? })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::args::Args;

    #[test]
    fn keys_are_parsed_at_the_edge_and_not_shown() {
        let parse = |line: &str| Args::try_parse_from(line.split(' '));
        let args = parse("barge --access-key BKA:sec:ret+1 ls").unwrap();
        let shown = args.access_key.as_ref().unwrap().header();
        assert_eq!(shown, "Bearer BKA:sec:ret+1");
        assert!(!format!("{args:?}{shown:?}").contains("sec:ret"));
        for bad in ["BKA", "BKA:short", "B K:secretsecret", ":secretsecret"] {
            assert!(Args::try_parse_from(["barge", "--access-key", bad, "ls"]).is_err(), "{bad}");
        }
        assert!(parse("barge key create --permission read --scope b/p --note x").is_ok());
        assert!(parse("barge key create --id BKA --secret secretsecretsecret").is_ok());
        assert!(parse("barge key create --secret secretsecretsecret").is_err());
        assert!(parse("barge key create --id BKA").is_err());
        assert!(parse("barge key create --scope /b").is_err());
        assert!(parse("barge key revoke BKA --secret-file f").is_ok());
        assert!(parse("barge key list --json").is_ok());
    }
}
