//! What TSVB computes of the numbers that come back: `+ - * /`, parentheses and `params.NAME`.

use anyhow::{Context, Result, bail, ensure};

/// The value of a script; nothing where a variable has none, or where it is divided by zero.
///
/// # Errors
/// If the script is outside of what is known, or names what is no variable.
pub(super) fn value(script: &str, variable: &dyn Fn(&str) -> Result<Option<f64>>) -> Result<Option<f64>> {
    let mut reader = Reader { rest: script.trim(), variable };
    let value = reader.sum().with_context(|| format!("script {script:?}"))?;
    ensure!(reader.rest.is_empty(), "script {script:?}: what is {:?}?", reader.rest);
    Ok(value.filter(|value| value.is_finite()))
}

struct Reader<'a> {
    rest: &'a str,
    variable: &'a dyn Fn(&str) -> Result<Option<f64>>,
}

impl Reader<'_> {
    fn takes(&mut self, mark: char) -> bool {
        let after = self.rest.strip_prefix(mark);
        self.rest = after.unwrap_or(self.rest).trim_start();
        after.is_some()
    }

    fn sum(&mut self) -> Result<Option<f64>> {
        let mut sum = self.product()?;
        loop {
            sum = if self.takes('+') {
                both(sum, self.product()?, |left, right| left + right)
            } else if self.takes('-') {
                both(sum, self.product()?, |left, right| left - right)
            } else {
                return Ok(sum);
            };
        }
    }

    fn product(&mut self) -> Result<Option<f64>> {
        let mut product = self.atom()?;
        loop {
            product = if self.takes('*') {
                both(product, self.atom()?, |left, right| left * right)
            } else if self.takes('/') {
                both(product, self.atom()?, |left, right| left / right)
            } else {
                return Ok(product);
            };
        }
    }

    fn atom(&mut self) -> Result<Option<f64>> {
        if self.takes('(') {
            let inner = self.sum()?;
            ensure!(self.takes(')'), "a parenthesis without its end");
            return Ok(inner);
        }
        let ends = |character: char| !(character.is_alphanumeric() || character == '.' || character == '_');
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        if let Some(name) = word.strip_prefix("params.") {
            return (self.variable)(name);
        }
        match word.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => bail!("not known: {word:?}"),
        }
    }
}

fn both(left: Option<f64>, right: Option<f64>, of: impl Fn(f64, f64) -> f64) -> Option<f64> {
    Some(of(left?, right?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_come_before_sums_and_what_is_not_known_is_an_error() {
        let variable = |name: &str| match name {
            "a" => Ok(Some(6.0)),
            "none" => Ok(None),
            other => bail!("no variable {other}"),
        };
        let of = |script: &str| value(script, &variable);
        assert_eq!(of("(params.a + 2 * 3) / 4").unwrap(), Some(3.0));
        assert_eq!(of("10 - 2 - 3").unwrap(), Some(5.0));
        assert_eq!(of("params.none + 1").unwrap(), None);
        assert_eq!(of("1 / 0").unwrap(), None);
        for script in ["params.b", "max(1, 2)", "1 +", "1 2", "(1"] {
            assert!(of(script).is_err(), "{script}");
        }
    }
}
