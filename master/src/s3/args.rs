//! The S3 options of the command line, for `master` and for the all-in-one server.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::config::Config;
use crate::config::S3Settings;

/// How entity tags are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum EtagKind {
    /// MD5, as S3 clients expect.
    #[default]
    Md5,
    /// BLAKE3, at no extra cost. Clients that compare tags with MD5 sums can tell that these are different.
    Blake3,
}

/// How requests for server-side encryption or another storage class are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AcceptSse {
    /// Refuse them: nothing is encrypted, and STANDARD is the only storage class.
    #[default]
    Refuse,
    /// Accept and ignore them, for clients that cannot leave them out.
    Noop,
}

/// Options of the S3 API.
#[derive(Clone, Debug, Args)]
pub struct S3Args {
    /// Address of the S3 API [default: port 9000 beside --listen for `barge server`, none for `master`]
    #[arg(long, value_name = "ADDR")]
    pub s3_listen: Option<SocketAddr>,
    /// Region that S3 signatures must name [default: any]
    #[arg(long, value_name = "NAME")]
    s3_region: Option<String>,
    /// Domain for virtual-host addressing: BUCKET.DOMAIN
    #[arg(long, value_name = "DOMAIN")]
    s3_domain: Option<String>,
    /// How S3 entity tags are computed
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    s3_etag: EtagKind,
    /// How to answer requests for AES256 encryption or a storage class other than STANDARD
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    s3_accept_sse: AcceptSse,
    /// Age at which an unfinished multipart upload expires
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "7d")]
    upload_expiry: Duration,
}

impl S3Args {
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
