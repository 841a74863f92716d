//! placeholder
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum WriteCondition { None, Absent, Matches(Vec<crate::digest::Digest>), AnyPresent }
