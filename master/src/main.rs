//! `master`, as a program of its own.

fn main() -> anyhow::Result<()> {
    master::main()
}
