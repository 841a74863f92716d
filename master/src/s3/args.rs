//! The S3 face's part of a command line, for `master` and for the all-in-one server.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::config::Config;
use crate::config::S3Settings;

/// What entity tags are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum EtagKind {
    /// MD5, as S3 clients expect.
    #[default]
    Md5,
    /// BLAKE3, which costs nothing: clients that compare tags with MD5 sums see that these are none.
    Blake3,
}

/// What becomes of requests for encryption by the server or for another class of storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AcceptSse {
    /// They are refused: nothing is encrypted, and there is one class.
    #[default]
    Refuse,
    /// They are taken, and nothing is done: for clients that cannot leave it out.
    Noop,
}

/// How the S3 face is set up.
#[derive(Clone, Debug, Args)]
pub struct S3Args {
    /// Where S3 clients are answered [default: port 9000 beside --listen for `barge server`, nowhere for `master`]
    #[arg(long, value_name = "ADDR")]
    pub s3_listen: Option<SocketAddr>,
    /// The only region that S3 signatures may name [default: any]
    #[arg(long, value_name = "NAME")]
    s3_region: Option<String>,
    /// Buckets may stand in front of this domain: BUCKET.DOMAIN
    #[arg(long, value_name = "DOMAIN")]
    s3_domain: Option<String>,
    /// What S3 entity tags are made of
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    s3_etag: EtagKind,
    /// What becomes of requests for AES256 or for another storage class than STANDARD
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    s3_accept_sse: AcceptSse,
    /// An upload in parts that was not completed goes when it is this old
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "7d")]
    upload_expiry: Duration,
}

impl S3Args {
    /// Puts it into a configuration.
    pub fn apply(&self, config: &mut Config) {
        config.s3 = S3Settings {
            region: self.s3_region.clone(),
            domain: self.s3_domain.clone(),
            blake3_etags: self.s3_etag == EtagKind::Blake3,
            noop: self.s3_accept_sse == AcceptSse::Noop,
        };
        config.upload_expiry = self.upload_expiry;
    }
}
