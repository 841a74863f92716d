//! Decides, before an operation runs, who sent a request, what it asks for, and whether that is supported and
//! permitted. Also completes responses on their way out.

pub(super) mod audited;
pub mod auth;
pub(super) mod aws_chunked;
pub(super) mod body;
pub(super) mod context;
pub(super) mod cors;
pub(super) mod early_refusal;
pub(super) mod guard;
pub(super) mod operation_name;
pub(super) mod permissions;
pub(super) mod presigned_headers;
pub(super) mod supported;
pub(super) mod unreadable_headers;
pub(super) mod virtual_host;
