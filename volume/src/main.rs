//! The `volume` program.

fn main() -> anyhow::Result<()> {
    volume::main()
}
