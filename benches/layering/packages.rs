//! The packages of an image: from a file, or generated in the shape of nixpkgs.
//!
//! What is generated has the numbers of `large.closure`, in brackets. They are those of Debian's packages,
//! as store paths; that few packages have most of the users, and none has many dependencies, is also what
//! Tweag found in nixpkgs (<https://www.tweag.io/blog/2019-02-06-mapping-open-source/>).
//!
//! 1. A set of eight times as many packages as the image will have. Sizes are log-normal: median 330 KB,
//!    standard deviation of the logarithm 2.0 [336 KB, 2.02]. The first, of 13 MB, is the C library, which
//!    84 % use [84 %]. Further dependencies are on earlier packages, 2.2 on average, half of them chosen
//!    evenly, half in proportion to the users they have already.
//! 2. The image is the closure of packages drawn evenly, until there are enough. Of 400 paths some 60 are
//!    then needed by no other [27 of 391], references are 3.0 on average [3.1], and half of the paths have at
//!    most 4 direct and indirect users, the path itself included [6], a tenth at least 30 [24].

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::str::FromStr;

use nixlayer::nix::{Closure, NarHash, PathInfo, StorePath};

use super::random::Random;

#[derive(Clone)]
pub(super) struct Packages {
    all: Vec<Package>,
}

#[derive(Clone)]
struct Package {
    name: String,
    size: u64,
    uses: BTreeSet<usize>,
    /// How often it was updated itself.
    version: u64,
    /// What its hash is made from: another for every rebuild.
    build: u64,
}

impl FromStr for Packages {
    type Err = Box<dyn Error>;

    /// A line for each package: its name, its size, the names of those it refers to. `#` begins a comment.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lines = || text.lines().filter(|line| !line.starts_with('#'));
        let names = lines().filter_map(|line| line.split(' ').next());
        let places: BTreeMap<_, _> = names.enumerate().map(|(place, name)| (name, place)).collect();
        let package = |line: &str| {
            let (name, rest) = line.split_once(' ').ok_or("a line without a size")?;
            let mut words = rest.split(' ');
            let size = words.next().unwrap_or_default().parse()?;
            let place = |name| places.get(name).copied().ok_or_else(|| format!("`{name}` has no line"));
            Ok(Package::new(name, size, words.map(place).collect::<Result<_, _>>()?))
        };
        let all: Vec<_> = lines().map(package).collect::<Result<_, Self::Err>>()?;
        if places.len() < all.len() { Err("two lines have one name".into()) } else { Ok(Self { all }) }
    }
}

impl Packages {
    pub(super) fn generate(paths: usize, random: &mut Random) -> Self {
        let mut all = vec![Package::new("libc", 13_000_000, BTreeSet::new())];
        let mut used = Vec::new();
        for number in 1..8 * paths {
            let mut uses = BTreeSet::new();
            if random.fraction() < 0.84 {
                uses.insert(0);
            }
            for _ in 0..random.exponential(2.2).round() as usize {
                let popular = random.fraction() < 0.5 && !used.is_empty();
                let other = if popular { used[random.below(used.len())] } else { random.below(number) };
                if other != 0 && uses.insert(other) {
                    used.push(other);
                }
            }
            let size = (12.7 + 2.0 * random.normal()).exp() as u64 + 1000;
            all.push(Package::new(&format!("package{number}"), size, uses));
        }

        let set = Self { all };
        let mut image = BTreeSet::new();
        while image.len() < paths {
            image.extend(set.needs_of(random.below(set.all.len())));
        }
        let places: BTreeMap<_, _> = image.iter().enumerate().map(|(place, &old)| (old, place)).collect();
        let package = |old: &usize| {
            let mut package = set.all[*old].clone();
            package.uses = package.uses.iter().map(|used| places[used]).collect();
            package
        };
        Self { all: image.iter().map(package).collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    fn needs_of(&self, package: usize) -> BTreeSet<usize> {
        reached(package, |package| self.all[package].uses.clone())
    }

    /// For each package those that need it, however indirectly, and itself.
    pub(super) fn dependents(&self) -> Vec<BTreeSet<usize>> {
        let mut users = vec![BTreeSet::new(); self.len()];
        for (user, package) in self.all.iter().enumerate() {
            for &used in &package.uses {
                users[used].insert(user);
            }
        }
        (0..self.len()).map(|package| reached(package, |package| users[package].clone())).collect()
    }

    /// A new version of it, of a somewhat other size: by 5 % up or down, as a standard deviation.
    pub(super) fn update(&mut self, package: usize, random: &mut Random) {
        let package = &mut self.all[package];
        package.version += 1;
        package.size = (package.size as f64 * (0.05 * random.normal()).exp()) as u64;
    }

    pub(super) fn rebuild(&mut self, package: usize, random: &mut Random) {
        self.all[package].build = random.bits();
    }

    /// Each package as it is now.
    pub(super) fn paths(&self) -> Result<Vec<StorePath>, Box<dyn Error>> {
        self.all.iter().map(Package::path).collect()
    }

    pub(super) fn closure(&self) -> Result<Closure, Box<dyn Error>> {
        let paths = self.paths()?;
        let infos = self.all.iter().zip(&paths).map(|(package, path)| PathInfo {
            path: path.clone(),
            nar_hash: NarHash::from_bytes([0; 32]),
            nar_size: package.size,
            references: package.uses.iter().map(|&used| paths[used].clone()).collect(),
        });
        Ok(Closure::new(infos)?)
    }
}

impl Package {
    fn new(name: &str, size: u64, uses: BTreeSet<usize>) -> Self {
        Self { name: name.to_owned(), size, uses, version: 0, build: 0 }
    }

    fn path(&self) -> Result<StorePath, Box<dyn Error>> {
        let Self { name, version, build, .. } = self;
        Ok(StorePath::from_base_name(&format!("{build:032}-{name}+{version}"))?)
    }
}

fn reached(start: usize, next: impl Fn(usize) -> BTreeSet<usize>) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut waiting = vec![start];
    while let Some(package) = waiting.pop() {
        if reached.insert(package) {
            waiting.extend(next(package));
        }
    }
    reached
}
