//! Tells a story event by event, in one language, and plants who-has-what questions in it.
//!
//! A fact (`Now Mira had the lantern.`) stays *pending* until it is asked about. While it is, its
//! holder is not named again, so that the answer can come from memory alone; other people go on
//! handing other things around. One fact is pending at a time, in some stories two.

use super::dice::Dice;
use super::event::{Action, Event, Kind};
use super::lexicon::{PEOPLE, THINGS};
use super::names::{self, Named, Style};
use super::phrases::{
    ACTIONS, BACKGROUNDS, CAUSES, CLOSINGS, CREATURES, EXCHANGES, FEELINGS, GIVINGS, MOODS,
    REMARKS, SAYING, SHORTS, TAKINGS, THOUGHTS, TIMES, TOPICS, WANDERINGS,
};
use super::scene::{Details, Scene};
use super::story::{Language, StoryQuestion};
use super::world::World;
use super::{chinese, english};

/// How many recent phrases are not told again.
const REMEMBERED_PHRASES: usize = 60;
/// How often a step states a new fact where one more may be pending. It sets how much of the
/// text is questions against narrative.
const NEW_FACT_PERCENT: usize = 80;
/// How many stories ask soon after each fact.
const BRISK_PERCENT: usize = 50;
/// Percentage of stories in which two facts may wait at once, so that questions are not always
/// about the last fact.
const TWO_PENDING_PERCENT: usize = 5;

#[derive(Debug, Clone)]
pub(super) struct Narrator {
    pub(super) language: Language,
    pub(super) scene: Scene,
    pub(super) dice: Dice,
    pub(super) world: World,
    pub(super) page: Page,
    pub(super) events: Vec<Event>,
    pub(super) questions: Vec<StoryQuestion>,
    pending: Vec<Pending>,
    most_pending: usize,
    pace: Pace,
    recent: Vec<(u8, usize)>,
    hero_in_mind: bool,
}

/// How long a story's questions wait. A long memory learns to keep a fact over a sentence before it
/// learns to keep one over a page, so that there are stories of both kinds.
#[derive(Debug, Clone, Copy)]
enum Pace {
    Brisk,
    Slow,
}

/// A fact that waits for its question.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    pub(super) person: usize,
    pub(super) thing: usize,
    /// Characters on the page up to and including the fact's full stop.
    pub(super) fact_end: usize,
    /// The distance to ask at; none for a fact that is asked from outside.
    target: Option<usize>,
}

/// The text so far and its length in characters.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub(super) text: String,
    pub(super) chars: usize,
    after_question: bool,
}

impl Narrator {
    pub(super) fn new(mut dice: Dice, language: Language) -> Self {
        let scene = Scene::draw(&mut dice);
        let pace = if dice.chance(BRISK_PERCENT) { Pace::Brisk } else { Pace::Slow };
        let most_pending = 1 + usize::from(dice.chance(TWO_PENDING_PERCENT));
        Self {
            language,
            scene,
            dice,
            world: World::default(),
            page: Page { text: String::new(), chars: 0, after_question: false },
            events: Vec::new(),
            questions: Vec::new(),
            pending: Vec::new(),
            most_pending,
            pace,
            recent: Vec::new(),
            hero_in_mind: false,
        }
    }

    /// The whole story, from its opening to its last sentence; every pending fact is asked about.
    pub(super) fn tell(&mut self) {
        self.open();
        let length = match self.language {
            Language::English => self.dice.between(800, 1500),
            Language::Chinese => self.dice.between(350, 700),
        };
        while self.page.chars < length {
            self.step(true);
        }
        while !self.pending.is_empty() {
            self.step(false);
        }
        self.tell_kind(Kind::Turn);
        let closing = self.dice.below(CLOSINGS[self.scene.sentiment as usize].len());
        self.tell_kind(Kind::Closing(closing));
    }

    /// The opening, and often a look around.
    pub(super) fn open(&mut self) {
        self.tell_kind(Kind::Opening);
        if self.dice.chance(60) {
            let view = self.fresh(13, TOPICS[self.scene.topic as usize].views.len());
            self.tell_kind(Kind::View(view));
        }
    }

    /// One thing happens: a question that is due, a new fact, or something else.
    pub(super) fn step(&mut self, new_facts: bool) {
        if let Some(due) = self.due() {
            self.ask(due);
        } else if new_facts && self.has_room() && self.dice.chance(NEW_FACT_PERCENT) {
            let target = self.draw_target();
            self.plant(Some(target));
        } else {
            let event = self.draw_event();
            self.tell_event(event);
        }
    }

    /// The distance of a new fact's question, in characters. In a slow story each doubling of 80
    /// has the same probability.
    fn draw_target(&mut self) -> usize {
        match self.pace {
            Pace::Brisk => self.dice.between(20, 64),
            Pace::Slow => {
                let doublings = match self.language {
                    Language::English => 4,
                    Language::Chinese => 3,
                };
                let shortest = 80 << self.dice.below(doublings);
                self.dice.between(shortest, 2 * shortest)
            }
        }
    }

    /// Whether one more fact may be pending.
    pub(super) fn has_room(&self) -> bool {
        self.pending.len() < self.most_pending
    }

    /// Someone takes or is given a thing, and the fact is stated. Without a `target` it is never
    /// asked about by [`step`](Self::step), and stays true.
    pub(super) fn plant(&mut self, target: Option<usize>) -> Pending {
        let event = loop {
            let event = self.draw_move();
            let moves_kept_thing = self
                .pending
                .iter()
                .any(|fact| fact.target.is_none() && Some(fact.thing) == event.thing());
            if !moves_kept_thing {
                break event;
            }
        };
        self.tell_event(event);
        let thing = event.thing().unwrap_or(0);
        let person = self.world.holder(thing).unwrap_or(0);
        self.pending.retain(|fact| fact.thing != thing);
        self.tell_kind(Kind::Holds { person, thing });
        let fact = Pending { person, thing, fact_end: self.page.chars, target };
        self.pending.push(fact);
        fact
    }

    /// The sentence of `event` on the page.
    pub(super) fn tell_event(&mut self, mut event: Event) {
        event.pronoun = self.hero_in_mind
            && !matches!(event.kind, Kind::Exchange { .. })
            && self.dice.chance(85);
        self.hero_in_mind = event.leaves_hero_in_mind(&self.scene);
        self.world.apply(&event);
        let sentence = self.language.sentence(&event, &self.scene);
        self.page.add(&sentence, self.language, matches!(event.kind, Kind::Question { .. }));
        self.events.push(event);
    }

    /// Characters from `fact` to the answer, if its question came now.
    pub(super) fn distance_if_asked(&self, fact: Pending) -> usize {
        self.page.chars + self.question_chars(fact) - fact.fact_end
    }

    /// The question about `fact` up to its answer, with the line break before it; and the answer.
    pub(super) fn question(&self, fact: Pending) -> (String, String) {
        let answer = self.language.name(fact.person).to_owned();
        let mut line = format!("\n{}", self.question_line(fact));
        // The line ends in the answer and one character of punctuation.
        let punctuation = line.pop().map_or(0, |_| answer.len());
        line.truncate(line.len() - punctuation);
        (line, answer)
    }

    /// An event that may come anywhere, and names nobody whose fact is pending.
    pub(super) fn draw_event(&mut self) -> Event {
        loop {
            let kind = self.draw_kind();
            let event = self.event(kind);
            if !event.repeats_itself(&self.scene) {
                return event;
            }
        }
    }

    /// A taking or a giving, by nobody whose other fact is pending.
    pub(super) fn draw_move(&mut self) -> Event {
        let thing = self.dice.below(THINGS.len());
        // A thing that was just spoken of may go on to someone else; its fact is then no more.
        let giver = self.world.holder(thing).filter(|&holder| {
            !self.pending.iter().any(|fact| fact.person == holder && fact.thing != thing)
        });
        let free = self.free_people();
        let kind = match giver {
            Some(giver) => {
                let others: Vec<usize> =
                    free.into_iter().filter(|&person| person != giver).collect();
                let receiver = others[self.dice.below(others.len())];
                Kind::Give { giver, receiver, thing, row: self.fresh(0, GIVINGS.len()) }
            }
            None if self.world.holder(thing).is_some() => return self.draw_move(),
            None => {
                let person = free[self.dice.below(free.len())];
                Kind::Take { person, thing, row: self.fresh(1, TAKINGS.len()) }
            }
        };
        self.event(kind)
    }

    /// An event that makes sense by itself: anything but the very short.
    pub(super) fn draw_translatable(&mut self) -> Event {
        match self.dice.weighted(&[70, 12, 5, 7, 4, 2]) {
            0 => loop {
                let event = self.draw_event();
                if !matches!(event.kind, Kind::Short(_)) {
                    return event;
                }
            },
            1 => {
                // A second thing is already in someone's hands, so that it may be given away.
                for _ in 0..self.dice.below(8) {
                    let event = self.draw_move();
                    self.world.apply(&event);
                }
                self.draw_move()
            }
            2 => {
                let person = self.dice.below(PEOPLE.len());
                let thing = self.dice.below(THINGS.len());
                self.event(Kind::Holds { person, thing })
            }
            3 => self.event(Kind::Opening),
            4 => self.event(Kind::Turn),
            _ => {
                let rows = CLOSINGS[self.scene.sentiment as usize].len();
                let row = self.dice.below(rows);
                self.event(Kind::Closing(row))
            }
        }
    }

    fn tell_kind(&mut self, kind: Kind) {
        let event = self.event(kind);
        self.tell_event(event);
    }

    /// Draws the details. The hero sets out with family; what the people who hold things do, they
    /// do with others, since `her mother` would be taken for theirs.
    fn event(&mut self, kind: Kind) -> Event {
        let mut details = Details::draw(&mut self.dice);
        match kind {
            Kind::Opening => details.helper = false,
            Kind::Wander { .. } | Kind::Take { .. } | Kind::Give { .. } => details.helper = true,
            _ => {}
        }
        Event { kind, details, pronoun: false }
    }

    fn ask(&mut self, index: usize) {
        let fact = self.pending.remove(index);
        let distance = self.distance_if_asked(fact);
        let (question, answer) = self.question(fact);
        self.questions.push(StoryQuestion {
            question: question.trim().to_owned(),
            answer,
            distance,
        });
        self.tell_kind(Kind::Question { person: fact.person, thing: fact.thing });
    }

    /// The oldest fact whose question is due. Half a sentence early is better than late.
    fn due(&self) -> Option<usize> {
        self.pending.iter().position(|&fact| {
            fact.target.is_some_and(|target| self.distance_if_asked(fact) + 20 >= target)
        })
    }

    fn question_chars(&self, fact: Pending) -> usize {
        let answer = self.language.name(fact.person).chars().count();
        1 + self.question_line(fact).chars().count() - answer - 1
    }

    fn question_line(&self, fact: Pending) -> String {
        let kind = Kind::Question { person: fact.person, thing: fact.thing };
        let event = Event { kind, details: Details::default(), pronoun: false };
        self.language.sentence(&event, &self.scene)
    }

    fn free_people(&self) -> Vec<usize> {
        (0..PEOPLE.len())
            .filter(|&person| !self.pending.iter().any(|fact| fact.person == person))
            .collect()
    }

    fn draw_kind(&mut self) -> Kind {
        let sentiment = self.scene.sentiment as usize;
        match self.dice.weighted(&[28, 15, 9, 6, 10, 11, 9, 5, 7, 3, 1]) {
            0 => {
                let first = self.draw_action();
                let second = self.dice.chance(35).then(|| self.draw_action());
                let time = self.dice.chance(35).then(|| self.fresh(4, TIMES.len()));
                Kind::Act { time, first, second }
            }
            1 => Kind::While {
                background: self.fresh(5, BACKGROUNDS.len()),
                action: self.draw_action(),
                background_first: self.dice.chance(60),
            },
            2 => Kind::Thought(self.fresh(6, THOUGHTS.len())),
            3 => Kind::Feel {
                feeling: self.dice.below(FEELINGS[sentiment].len()),
                cause: self.fresh(7, CAUSES[sentiment].len()),
            },
            4 => Kind::Creature(self.fresh(8, CREATURES.len())),
            5 => Kind::Remark {
                remark: self.fresh(9, REMARKS.len()),
                saying: self.dice.weighted(&[70, 10, 10, 10]).min(SAYING.len() - 1),
            },
            6 => Kind::Exchange {
                exchange: self.fresh(10, EXCHANGES.len()),
                hero_asks: self.dice.chance(50),
            },
            7 => {
                let free = self.free_people();
                let person = free[self.dice.below(free.len())];
                Kind::Wander { person, row: self.fresh(11, WANDERINGS.len()) }
            }
            8 => Kind::Mood(self.fresh(12, MOODS.len())),
            9 => Kind::View(self.fresh(13, TOPICS[self.scene.topic as usize].views.len())),
            _ => Kind::Short(self.fresh(14, SHORTS.len())),
        }
    }

    fn draw_action(&mut self) -> Action {
        if self.dice.chance(50) {
            Action::Anywhere(self.fresh(2, ACTIONS.len()))
        } else {
            let actions = TOPICS[self.scene.topic as usize].actions.len();
            Action::Here(self.fresh(3, actions))
        }
    }

    /// A row of table `table` that was not drawn lately, if a few draws find one.
    fn fresh(&mut self, table: u8, rows: usize) -> usize {
        let mut row = self.dice.below(rows);
        for _ in 0..8 {
            if !self.recent.contains(&(table, row)) {
                break;
            }
            row = self.dice.below(rows);
        }
        self.recent.push((table, row));
        if self.recent.len() > REMEMBERED_PHRASES {
            self.recent.remove(0);
        }
        row
    }
}

impl Page {
    fn add(&mut self, sentence: &str, language: Language, question: bool) {
        let gap = match language {
            _ if self.text.is_empty() => "",
            _ if question || self.after_question => "\n",
            Language::English => " ",
            Language::Chinese => "",
        };
        self.text.push_str(gap);
        self.text.push_str(sentence);
        self.chars += gap.len() + sentence.chars().count();
        self.after_question = question;
    }
}

impl Language {
    /// The event as a sentence of this language.
    pub(super) fn sentence(self, event: &Event, scene: &Scene) -> String {
        self.rendered(event, scene, names::plain)
    }

    /// The same sentence with the places of the names in it.
    pub(super) fn named(self, event: &Event, scene: &Scene) -> Named {
        Named::of(&self.rendered(event, scene, names::marked))
    }

    fn rendered(self, event: &Event, scene: &Scene, style: Style) -> String {
        match self {
            Language::English => english::sentence(event, scene, style),
            Language::Chinese => chinese::sentence(event, scene, style),
        }
    }

    /// The name of one of the people who hold things.
    pub(super) fn name(self, person: usize) -> &'static str {
        match self {
            Language::English => PEOPLE[person].english,
            Language::Chinese => PEOPLE[person].chinese,
        }
    }
}
