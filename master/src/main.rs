//! The binary `master`.

fn main() -> anyhow::Result<()> {
    master::main()
}
