//! Mistakes that tests plant in the guard, to prove that the comparison with the library finds them: a check that has
//! never failed is not known to work. Not part of the product.

use std::cell::Cell;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A form whose content type is not ASCII is not recognized.
    FormsAreAscii,
    /// Names of signed headers are compared without case.
    NamesInAnyCase,
}

thread_local! {
    static PLANTED: Cell<Option<Mistake>> = const { Cell::new(None) };
}

/// Plants a mistake on this thread, or removes it.
pub fn plant(mistake: Option<Mistake>) {
    PLANTED.set(mistake);
}

pub fn is(mistake: Mistake) -> bool {
    PLANTED.get() == Some(mistake)
}
