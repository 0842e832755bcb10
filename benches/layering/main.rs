//! What the layers of an image cost over a year of updates, by the strategy that plans them.
//!
//! ```text
//! cargo bench --bench layering [-- CLOSURE…]
//! ```
//!
//! Without arguments: the closure in `large.closure`, and [generated ones](packages) of 100, 400 and 1500
//! paths. A file that is named holds a closure as `large.closure` does.
//!
//! Each goes through the same [years](year) with every strategy. Printed are medians over the seeds:
//!
//! * **push**: bytes uploaded in the year, the first image not counted; **updates** without the rebuilds of
//!   everything; **leaf** only those updates that change one path, which nothing else needs; **settled**
//!   those of them after the first rebuild, when no layer of the first image is left.
//! * **pull**: bytes that a client gets which pulls at the end of each week.
//! * **layers**: how many layers an update sends, on average.
//! * **ms**: the longest time that a plan took.
//!
//! Bytes are those of NARs, not compressed: compression has much the same ratio for all. All are in ratio
//! to the ideal, which is the bytes of the paths that changed, so that 1.00 cannot be beaten.
//! `of auto` compares the bytes with those of `auto`.

mod packages;
mod random;
mod strategy;
mod year;

use std::error::Error;
use std::io::{self, Write};
use std::{env, fs};

use packages::Packages;
use random::Random;
use strategy::Strategy;
use year::{Costs, Habit, Transfer};

const SEEDS: u64 = 7;

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo adds `--bench`.
    let files: Vec<_> = env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let mut output = io::stdout().lock();
    for file in &files {
        let packages: Packages = fs::read_to_string(file)?.parse()?;
        compare(&mut output, file, Habit::LeavesMostly, |_| packages.clone())?;
    }
    if files.is_empty() {
        let large: Packages = include_str!("large.closure").parse()?;
        compare(&mut output, "large.closure", Habit::LeavesMostly, |_| large.clone())?;
        compare(&mut output, "large.closure, updated evenly", Habit::Evenly, |_| large.clone())?;
        for paths in [100, 400, 1500] {
            let name = format!("generated, {paths} paths");
            compare(&mut output, &name, Habit::LeavesMostly, |random| Packages::generate(paths, random))?;
        }
    }
    Ok(())
}

type Part = fn(&Costs) -> Transfer;

const COLUMNS: [(&str, Part); 5] = [
    ("push", Costs::push),
    ("updates", |year| year.updates),
    ("leaf", |year| year.leaves),
    ("settled", |year| year.settled),
    ("pull", |year| year.pull),
];

fn compare(
    output: &mut impl Write,
    name: &str,
    habit: Habit,
    packages: impl Fn(&mut Random) -> Packages,
) -> Result<(), Box<dyn Error>> {
    let years_with = |strategy| {
        let year = |seed| {
            let mut random = Random::new(seed);
            year::simulate(packages(&mut random), habit, strategy, &mut random)
        };
        (0..SEEDS).map(year).collect::<Result<Vec<_>, _>>()
    };
    let auto = years_with(Strategy::Auto)?;

    writeln!(output, "{name}; {SEEDS} seeds")?;
    let titles = COLUMNS.map(|(title, _)| format!("{title:>8}")).concat();
    writeln!(output, "{:10}{titles}  layers    ms | of auto:{titles}", "")?;
    for strategy in [Strategy::Popularity, Strategy::Auto, Strategy::Stable] {
        let years = if strategy == Strategy::Auto { auto.clone() } else { years_with(strategy)? };
        let to_ideal = COLUMNS.map(|(_, part)| median(years.iter().map(|year| part(year).ratio())));
        let to_auto = COLUMNS.map(|(_, part)| {
            median(years.iter().zip(&auto).map(|(ours, auto)| part(ours).sent / part(auto).sent))
        });
        let cells = |ratios: [f64; 5]| ratios.map(|ratio| format!("{ratio:8.2}")).concat();
        let slowest = years.iter().map(|year| year.slowest).max().unwrap_or_default().as_millis();
        let layers = median(years.iter().map(Costs::layers));
        let strategy = strategy.to_string();
        let (to_ideal, to_auto) = (cells(to_ideal), cells(to_auto));
        writeln!(output, "{strategy:10}{to_ideal}{layers:8.1}{slowest:6} |         {to_auto}")?;
    }
    writeln!(output)?;
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
