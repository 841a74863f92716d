//! `volume`, as a program of its own.

fn main() -> anyhow::Result<()> {
    volume::main()
}
