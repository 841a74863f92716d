//! What the command line says of access keys: `barge key`, and the one that the other verbs show.

use std::str::FromStr;

use clap::{Subcommand, ValueEnum};
use http::header::HeaderValue;
use shared::access::{AccessKeyId, AccessSecret, AccessSecretError, Permission, Scope};

use super::SecretArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make an access key; its secret is shown this once
    Create(KeyCreateArgs),
    /// Show the access keys, without their secrets
    List(KeyListArgs),
    /// Make an access key worthless, at once and on all masters
    Revoke(KeyRevokeArgs),
    /// Let anybody read the values of a bucket, without a key
    Anonymous(KeyAnonymousArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct KeyAnonymousArgs {
    /// The bucket
    pub(crate) bucket: String,
    /// No more
    #[arg(long)]
    pub(crate) off: bool,
    #[command(flatten)]
    pub(crate) signing: SecretArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct KeyCreateArgs {
    /// How much it permits: read (values and lists), write (and to store and delete), admin (and to configure)
    #[arg(long, value_enum, default_value_t = PermissionArg::Write)]
    pub(crate) permission: PermissionArg,
    /// Where: keys below BUCKET/, or those that begin with BUCKET/PREFIX (end a folder with a slash) [default: everywhere]
    #[arg(long, value_name = "BUCKET[/PREFIX]")]
    pub(crate) scope: Option<Scope>,
    /// Something to remember it by
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) note: String,
    /// The id to use instead of a new one; a key that has it is replaced
    #[arg(long, requires = "secret")]
    pub(crate) id: Option<AccessKeyId>,
    /// The secret to use instead of a new one, of at least 16 characters
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
    /// Its id
    pub(crate) id: AccessKeyId,
    #[command(flatten)]
    pub(crate) signing: SecretArgs,
}

/// A secret for a new key.
fn chosen_secret(text: &str) -> Result<AccessSecret, String> {
    let secret: AccessSecret = text.parse().map_err(|e: AccessSecretError| e.to_string())?;
    secret.chosen().map_err(|e| e.to_string())
}

/// As `Permission`, for the command line.
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

/// The access key that the verbs show to masters, and to nobody else.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    id: AccessKeyId,
    secret: AccessSecret,
}

impl Shown {
    /// As a header, which is not to be printed.
    pub(crate) fn header(&self) -> HeaderValue {
        let text = format!("Bearer {}:{}", self.id, self.secret.expose());
        let mut value = HeaderValue::from_str(&text).expect("printable ASCII is a header value");
        value.set_sensitive(true);
        value
    }
}

impl FromStr for Shown {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, secret) = text.split_once(':').ok_or("write ID:SECRET")?;
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
