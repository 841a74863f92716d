//! Mistakes that a test plants in the guard, to see that the comparison with the library finds them: a check that has never
//! failed is not known to work. Nothing of this is in a product.

use std::cell::Cell;

/// A way to get it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A form whose type is not ASCII is none.
    FormsAreAscii,
    /// Names of signed headers are the same in any case.
    NamesInAnyCase,
}

thread_local! {
    static PLANTED: Cell<Option<Mistake>> = const { Cell::new(None) };
}

/// Plants a mistake on this thread, or takes it out.
pub fn plant(mistake: Option<Mistake>) {
    PLANTED.set(mistake);
}

/// Whether this mistake is planted on this thread.
pub fn is(mistake: Mistake) -> bool {
    PLANTED.get() == Some(mistake)
}
