//! Every point of a task at which user code runs, and everything that it may do there instead of its
//! work.

use std::os::unix::process::ExitStatusExt;
use std::process;

use concurrent_futures::{CodecSide, Error, call};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::deaths::{Death, spin, start_sleep, status, wait_to_be_killed};
use crate::program::{Program, alone, part, say, wait_for_go};
use crate::tools::{Gate, Reports, end, family, lost, occupy, own_pid, pool};
use crate::watch::{Watched, assert_ended_soon, assert_no_child_left, children, kill};

const SIZES: [usize; 2] = [1, 2];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Moment {
    EncodeArguments,
    DecodeArguments,
    Body,
    EncodeResult,
    DecodeResult,
}

use Moment::{Body, DecodeArguments, DecodeResult, EncodeArguments, EncodeResult};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Mischief {
    Error,
    Panic,
    Die(Death),
    /// It is killed from outside.
    BeKilled,
}

use Mischief::{BeKilled, Die, Panic};

const MISCHIEF: [Mischief; 7] = [
    Mischief::Error,
    Panic,
    Die(Death::ALL[0]),
    Die(Death::ALL[1]),
    Die(Death::ALL[2]),
    Die(Death::ALL[3]),
    BeKilled,
];

/// What goes to the function and comes back from it, and makes trouble on the way.
#[derive(Clone)]
struct Trouble(Plan);

#[derive(Clone, Serialize, Deserialize)]
struct Plan {
    moment: Moment,
    mischief: Mischief,
    /// The process that has submitted the call.
    home: u32,
    is_result: bool,
    /// Who is to be killed in a worker.
    victims: Option<Reports>,
}

impl Trouble {
    fn new(moment: Moment, mischief: Mischief, victims: Option<&Reports>) -> Self {
        let (home, victims) = (process::id(), victims.cloned());
        Self(Plan { moment, mischief, home, is_result: false, victims })
    }

    fn is_at_home(&self) -> bool {
        self.0.home == process::id()
    }

    /// Makes trouble if this is the moment.
    fn at(&self, moment: Moment) -> Result<(), &'static str> {
        if self.0.moment != moment {
            return Ok(());
        }
        match self.0.mischief {
            Mischief::Error => return Err("no such luck"),
            Panic => panic!("no such luck"),
            Die(death) => death.die(),
            BeKilled => {}
        }
        match &self.0.victims {
            Some(victims) if !self.is_at_home() => victims.add(process::id()),
            _ => say(&[process::id()]),
        }
        wait_to_be_killed()
    }
}

// The codec decodes some of what it has encoded, to see whether it can; those are no moments here.

impl Serialize for Trouble {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.0.is_result, self.is_at_home()) {
            (false, true) => self.at(EncodeArguments).map_err(S::Error::custom)?,
            (true, false) => self.at(EncodeResult).map_err(S::Error::custom)?,
            _ => {}
        }
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Trouble {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let trouble = Self(Plan::deserialize(deserializer)?);
        match (trouble.0.is_result, trouble.is_at_home()) {
            (false, false) => trouble.at(DecodeArguments).map_err(D::Error::custom)?,
            (true, true) => trouble.at(DecodeResult).map_err(D::Error::custom)?,
            _ => {}
        }
        Ok(trouble)
    }
}

fn body(trouble: Trouble) -> Result<Trouble, String> {
    trouble.at(Body)?;
    Ok(Trouble(Plan { is_result: true, ..trouble.0 }))
}

/// The process that the mischief is done in is the one that makes the task.
fn is_at_home(moment: Moment) -> bool {
    matches!(moment, EncodeArguments | DecodeResult)
}

fn is_survived(mischief: Mischief) -> bool {
    matches!(mischief, Mischief::Error | Panic)
}

/// All that this process survives: what happens in workers, and what is an error in any process.
#[test]
fn a_task_fails_for_what_happened_to_it_and_the_next_one_works() {
    alone("matrix::a_task_fails_for_what_happened_to_it_and_the_next_one_works", || {
        for moment in [EncodeArguments, DecodeArguments, Body, EncodeResult, DecodeResult] {
            for mischief in MISCHIEF {
                for size in SIZES {
                    if !is_at_home(moment) || is_survived(mischief) {
                        println!("{moment:?}, {mischief:?}, {size} workers");
                        fail(moment, mischief, size);
                        assert_no_child_left();
                    }
                }
            }
        }
    });
}

fn fail(moment: Moment, mischief: Mischief, size: usize) {
    let pool = pool(size);
    let gate = Gate::new();
    let neighbour = (size > 1).then(|| occupy(&pool, &gate));
    let worker = pool.submit(call!(own_pid())).result().unwrap();

    let victims = Reports::new();
    let trouble = Trouble::new(moment, mischief, Some(&victims));
    let future = pool.submit(call!(body(trouble)));
    if mischief == BeKilled {
        assert_eq!(victims.wait_for(1), [worker]);
        kill(worker);
    }
    let outcome = future.result().map(|value| value.map(|_| "a value"));

    if is_survived(mischief) {
        match (moment, mischief, outcome) {
            (Body, Mischief::Error, Ok(value)) => assert_eq!(value, Err("no such luck".to_owned())),
            (Body, _, Err(Error::Panicked(panicked))) => {
                assert_eq!(panicked.message(), "no such luck");
            }
            (_, _, Err(Error::Codec(error))) => {
                let side = match moment {
                    EncodeArguments => CodecSide::EncodeArguments,
                    DecodeArguments => CodecSide::DecodeArguments,
                    EncodeResult => CodecSide::EncodeResult,
                    _ => CodecSide::DecodeResult,
                };
                assert_eq!(error.side, side, "{error}");
                assert!(error.type_name.contains("Trouble"), "{error}");
                assert!(error.message.contains("no such luck"), "{error}");
                assert_eq!(error.message.contains(file!()), mischief == Panic, "{error}");
            }
            (_, _, other) => panic!("{other:?}"),
        }
    } else {
        let lost = lost(outcome);
        let expected = match mischief {
            Die(death) => death.status(),
            _ => (None, Some(libc::SIGKILL)),
        };
        assert_eq!((lost.pid, status(&lost)), (worker, expected), "{lost}");
        assert!(lost.earlier.is_empty() && lost.cause.is_none(), "{lost}");
    }

    let next = pool.submit(call!(own_pid())).result().unwrap();
    assert_eq!(next == worker, is_survived(mischief));
    gate.open();
    if let Some(neighbour) = neighbour {
        let own = neighbour.result().unwrap();
        assert!(own != worker && own != next);
    }
    end(&pool);
}

/// What ends this process also ends its workers and what they have started.
#[test]
fn nothing_is_left_of_a_program_that_dies_of_its_own_types() {
    const NAME: &str = "matrix::nothing_is_left_of_a_program_that_dies_of_its_own_types";
    let cells = || {
        let moments = [EncodeArguments, DecodeResult].into_iter();
        let mischief = || MISCHIEF.into_iter().filter(|mischief| !is_survived(*mischief));
        moments.flat_map(move |moment| {
            mischief().flat_map(move |it| SIZES.map(|size| (moment, it, size)))
        })
    };
    if let Some(part) = part() {
        let (moment, mischief, size) = cells().nth(part.parse().unwrap()).unwrap();
        return die(moment, mischief, size);
    }
    for (number, cell) in cells().enumerate() {
        let mut program = Program::start(NAME, &number.to_string());
        let all = Watched::all(&program.hear());
        program.go();
        let (_, mischief, size) = cell;
        assert_eq!(all.len(), size + 2, "{cell:?}");
        if mischief == BeKilled {
            program.hear();
            program.kill();
        }
        let ended = program.ended();
        assert_ended_soon(&all);
        let expected = match mischief {
            Die(death) => death.status(),
            _ => (None, Some(libc::SIGKILL)),
        };
        assert_eq!((ended.code(), ended.signal()), expected, "{cell:?}\n{}", program.output());
    }
}

fn die(moment: Moment, mischief: Mischief, size: usize) {
    let pool = pool(size);
    let started = Reports::new();
    let _busy = (size > 1).then(|| pool.submit(call!(spin(started.clone()))));
    started.wait_for(size - 1);
    let sleep = pool.submit(call!(start_sleep())).result().unwrap();
    let mut all = family(&pool);
    all.push(sleep);
    say(&all);
    wait_for_go();
    let trouble = Trouble::new(moment, mischief, None);
    let outcome = pool.submit(call!(body(trouble))).result().map(|_| ());
    panic!("{:?} is alive: {outcome:?}", children());
}
