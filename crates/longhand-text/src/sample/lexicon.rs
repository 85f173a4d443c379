//! The words: people, things, places and animals, each in both languages on one row.
//!
//! The eight [`PEOPLE`] and eight [`THINGS`] are the closed sets that who-has-what questions are
//! about. Their first characters differ, so that an answer is decided by its first token. No
//! sentence names them otherwise: heroes and roles come from other rows.

/// Grammatical gender of a person, for pronouns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gender {
    Female,
    Male,
}

/// Someone with a name of their own.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) english: &'static str,
    pub(super) chinese: &'static str,
    pub(super) gender: Gender,
}

/// Something that is carried; `measure` is its Chinese classifier.
#[derive(Debug)]
pub(super) struct Noun {
    pub(super) english: &'static str,
    pub(super) plural: &'static str,
    pub(super) chinese: &'static str,
    pub(super) measure: &'static str,
}

/// Someone known by what they are. `family` roles take a possessive in English.
#[derive(Debug)]
pub(super) struct Role {
    pub(super) english: &'static str,
    pub(super) chinese: &'static str,
    pub(super) gender: Gender,
    pub(super) family: bool,
}

const fn person(english: &'static str, chinese: &'static str, gender: Gender) -> Person {
    Person { english, chinese, gender }
}

const fn noun(
    english: &'static str,
    plural: &'static str,
    chinese: &'static str,
    measure: &'static str,
) -> Noun {
    Noun { english, plural, chinese, measure }
}

const fn role(english: &'static str, chinese: &'static str, gender: Gender, family: bool) -> Role {
    Role { english, chinese, gender, family }
}

use Gender::{Female, Male};

/// The people who hold things.
pub(super) const PEOPLE: [Person; 8] = [
    person("Mira", "小梅", Female),
    person("Lena", "兰兰", Female),
    person("Ivy", "雪儿", Female),
    person("Rosa", "秋月", Female),
    person("Theo", "阿明", Male),
    person("Bruno", "大山", Male),
    person("Hugo", "虎子", Male),
    person("Oscar", "石头", Male),
];

/// The things that go from hand to hand.
pub(super) const THINGS: [Noun; 8] = [
    noun("lantern", "lanterns", "灯笼", "盏"),
    noun("key", "keys", "钥匙", "把"),
    noun("map", "maps", "地图", "张"),
    noun("flute", "flutes", "笛子", "支"),
    noun("basket", "baskets", "篮子", "个"),
    noun("drum", "drums", "鼓", "面"),
    noun("ticket", "tickets", "车票", "张"),
    noun("watch", "watches", "手表", "块"),
];

/// The heroes: they act, walk and feel, and never hold one of [`THINGS`].
pub(super) const HEROES: [Person; 14] = [
    person("Anna", "安安", Female),
    person("Clara", "小云", Female),
    person("Nora", "小米", Female),
    person("Daisy", "小花", Female),
    person("Grace", "乐乐", Female),
    person("Wendy", "小叶", Female),
    person("Emma", "月月", Female),
    person("Jack", "阿风", Male),
    person("Peter", "平平", Male),
    person("Sam", "冬冬", Male),
    person("Felix", "小海", Male),
    person("Kai", "海生", Male),
    person("Eli", "小天", Male),
    person("Victor", "阿新", Male),
];

/// Who comes along: the hero's family.
pub(super) const FAMILY: [Role; 4] = [
    role("grandmother", "奶奶", Female, true),
    role("grandfather", "爷爷", Male, true),
    role("mother", "妈妈", Female, true),
    role("father", "爸爸", Male, true),
];

/// Whom the hero meets.
pub(super) const HELPERS: [Role; 8] = [
    role("the baker", "面包师", Male, false),
    role("the teacher", "老师", Female, false),
    role("the doctor", "医生", Female, false),
    role("the gardener", "花农", Male, false),
    role("the fisherman", "渔夫", Male, false),
    role("the shopkeeper", "老板", Female, false),
    role("the old captain", "老船长", Male, false),
    role("the old woman next door", "隔壁的老奶奶", Female, false),
];

/// Things to eat, alone or for sale.
pub(super) const FOODS: [Noun; 5] = [
    noun("apple", "apples", "苹果", "个"),
    noun("pear", "pears", "梨", "个"),
    noun("peach", "peaches", "桃子", "个"),
    noun("bun", "buns", "包子", "个"),
    noun("egg", "eggs", "鸡蛋", "个"),
];

/// Animals with their looks: English with article, Chinese with classifier.
pub(super) const ANIMALS: [(&str, &str); 7] = [
    ("a grey cat", "一只灰猫"),
    ("a brown dog", "一只黄狗"),
    ("a white duck", "一只白鸭子"),
    ("a small bird", "一只小鸟"),
    ("a black goat", "一只黑羊"),
    ("an old cat", "一只老猫"),
    ("an angry rooster", "一只生气的公鸡"),
];

/// Where something is: a phrase of place, to which Chinese adds 在 or 从.
pub(super) const SPOTS: [(&str, &str); 12] = [
    ("near the old house", "老房子旁边"),
    ("under the bridge", "桥下"),
    ("by the gate", "大门口"),
    ("on a long bench", "长椅上"),
    ("behind the bakery", "面包店后面"),
    ("in the middle of the square", "广场中间"),
    ("beside the river", "河边"),
    ("in front of the school", "学校门前"),
    ("under a tall tree", "大树下"),
    ("in front of the shop", "小店门前"),
    ("on the corner", "路口"),
    ("beside an empty cart", "一辆空车旁边"),
];

/// Colours; none begins with a vowel, so that `a` is always right before them.
pub(super) const COLOURS: [(&str, &str); 6] = [
    ("red", "红"),
    ("blue", "蓝"),
    ("green", "绿"),
    ("yellow", "黄"),
    ("white", "白"),
    ("black", "黑"),
];

/// Looks of a carried thing, when it is found.
pub(super) const LOOKS: [(&str, &str); 6] = [
    ("old", "旧"),
    ("new", "新"),
    ("small", "小"),
    ("red", "红色的"),
    ("pretty", "好看的"),
    ("white", "白色的"),
];
