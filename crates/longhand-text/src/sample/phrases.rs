//! The phrases: each row says one thing in English and in Chinese.
//!
//! Slots in braces are filled by the renderers, each in its own grammar: `{h}` the hero as a
//! subject (name or pronoun), `{name}` the hero's name, `{he}` `{him}` `{his}` the hero's
//! pronouns, `{c}` a companion, `{goods}` what the story's
//! hero deals in, `{food}` one thing to eat, `{spot}`, `{animal}`, `{colour}`, `{p}` and `{q}` the
//! people who hold things, `{thing}` what they hold, `{athing}` the same with its
//! looks. Openings have slots of their own.

/// One thing said in both languages: English, Chinese.
pub(super) type Row = (&'static str, &'static str);

/// Rows of one topic.
#[derive(Debug)]
pub(super) struct TopicPhrases {
    /// 'at the market', for titles.
    pub(super) at: Row,
    /// 'went to the market', and what for.
    pub(super) goes: Row,
    /// The same in the present tense (Chinese has none).
    pub(super) goes_now: &'static str,
    /// Sentences that describe the place.
    pub(super) views: &'static [Row],
    /// Deeds of the hero there: a verb phrase in the past.
    pub(super) actions: &'static [Row],
    /// The end of the story, and the same in short for the summary; by
    /// sentiment: positive, negative, neutral.
    pub(super) turns: [&'static [(Row, Row)]; 3],
}

/// By [`Topic`](super::Topic), in its order.
pub(super) const TOPICS: [TopicPhrases; 6] = [
    TopicPhrases {
        at: ("at the Market", "在集市"),
        goes: ("went to the market to sell {goods}", "去集市卖{goods}"),
        goes_now: "goes to the market to sell {goods}",
        views: &[
            ("The market was full of voices", "集市上到处是人声"),
            ("Carts stood in long rows between the houses", "房子中间停着一排排小车"),
            ("The smell of fresh bread was everywhere", "到处是新面包的味道"),
        ],
        actions: &[
            ("set out the {goods} in rows", "把{goods}一排排放好"),
            ("picked out some {goods} for {c}", "给{c}拿了一些{goods}"),
            ("called out the price of the {goods}", "大声喊着{goods}的价钱"),
            ("counted the coins again", "把钱数了又数"),
            ("gave {c} the best {goods}", "把最好的{goods}给了{c}"),
            ("put the {goods} on the cart", "把{goods}放上车"),
            ("pulled the cart across the market", "拉着小车走过集市"),
            ("drank a bowl of tea in the shop next door", "在隔壁小店喝了一碗茶"),
        ],
        turns: [
            &[
                (
                    (
                        "Then {c} bought all the {goods} and paid double",
                        "后来{c}把{goods}全买了，还多给了一倍的钱",
                    ),
                    ("sells them all for twice the price", "卖了一倍的价钱"),
                ),
                (
                    (
                        "People came from far away to buy {his} {goods}",
                        "很远的人都来买{his}{goods}",
                    ),
                    ("has a very good day", "这一天过得很开心"),
                ),
            ],
            &[
                (
                    ("Then a thief ran off with all the money", "后来小偷把钱全偷走了"),
                    ("loses all the money to a thief", "钱全被偷走了"),
                ),
                (
                    (
                        "Then the {goods} fell into the mud, and nobody wanted them",
                        "后来{goods}掉进了泥里，谁也不要",
                    ),
                    ("drops everything in the mud", "东西全掉进了泥里"),
                ),
            ],
            &[
                (
                    (
                        "By the end {h} had sold half of the {goods} and kept the rest",
                        "最后{h}卖掉了一半{goods}，剩下的留着",
                    ),
                    ("sells half of them", "卖掉了一半"),
                ),
                (
                    ("As many {goods} were sold as on any other day", "{goods}卖得和平时一样多"),
                    ("has a day like any other", "这一天和平时一样"),
                ),
            ],
        ],
    },
    TopicPhrases {
        at: ("on a Journey", "在路上"),
        goes: ("set out to see the sea", "出门去看大海"),
        goes_now: "sets out to see the sea",
        views: &[
            ("The road was long and empty", "路很长，也很空"),
            ("Small villages passed one after another", "一个个小村过去了"),
            ("Far away, the hills were blue", "远处的山是蓝色的"),
        ],
        actions: &[
            ("waited for the slow train", "等着那班慢车"),
            ("walked over a hill", "走过了一座山"),
            ("crossed the stone bridge", "走过了石桥"),
            ("looked at the fields going by", "看着田野一片片过去"),
            ("slept for a while beside the window", "在窗边睡了一会儿"),
            ("asked a farmer the way", "向一个农夫问路"),
            ("put down a big bag", "放下了一个大包"),
            ("shared {food} with {c}", "和{c}分着吃了{food}"),
        ],
        turns: [
            &[
                (
                    (
                        "At last {h} saw the sea, and it was more beautiful than {he} had hoped",
                        "最后{h}看见了大海，比{he}想的还要美",
                    ),
                    ("finds nothing in the world more beautiful", "看见了世上最美的海"),
                ),
                (
                    (
                        "A kind driver took {him} all the way to the beach and asked for no money",
                        "好心的车夫把{him}送到海边，没有要钱",
                    ),
                    ("meets a kind driver on the way", "路上遇到了好心人"),
                ),
            ],
            &[
                (
                    ("Then the last train left without {him}", "后来最后一班车没有等{him}就开走了"),
                    ("misses the last train", "最后一班车开走了"),
                ),
                (
                    (
                        "Then {h} lost the way, and it grew dark and cold",
                        "后来{h}迷了路，天又黑又冷",
                    ),
                    ("gets lost in the dark", "天黑迷了路"),
                ),
            ],
            &[
                (
                    ("The train arrived at the usual time", "火车准时到了"),
                    ("arrives at the usual time", "准时到了"),
                ),
                (
                    (
                        "After two hours {h} came to the beach and turned back",
                        "走了两个小时，{h}到了海边，就回来了",
                    ),
                    ("turns back at the beach", "到了海边就回来了"),
                ),
            ],
        ],
    },
    TopicPhrases {
        at: ("at School", "在学校"),
        goes: ("went to school to learn a poem", "去学校学一首诗"),
        goes_now: "goes to school to learn a poem",
        views: &[
            ("All the children had new books", "孩子们都有新书"),
            ("The bell had rung, and everyone was inside", "钟声响了，大家都在里面"),
            ("Someone was reading aloud in the next room", "隔壁有人在大声读书"),
        ],
        actions: &[
            ("read aloud from a book", "大声读了一会儿书"),
            ("drew a boat on the blackboard", "在黑板上画了一只船"),
            ("learned three new words", "学了三个新字"),
            ("solved a hard problem", "做出了一道难题"),
            ("asked {c} for a pencil", "向{c}要了一支笔"),
            ("cleaned the windows", "洗干净了窗户"),
            ("asked a hard question", "问了一个难题"),
            ("helped a younger child", "帮了一个小孩子"),
        ],
        turns: [
            &[
                (
                    (
                        "Then {h} read the poem to the whole class, and everyone clapped",
                        "后来{h}给全班读了那首诗，大家都鼓起掌来",
                    ),
                    ("makes the whole class clap", "全班都鼓掌"),
                ),
                (
                    ("{c} said it was the best poem in the school", "{c}说这是全校最好的诗"),
                    ("writes the best one in the school", "写出了全校最好的诗"),
                ),
            ],
            &[
                (
                    (
                        "Then {h} forgot every word in front of the class",
                        "后来{h}在全班面前一个字也想不起来了",
                    ),
                    ("forgets every word", "一个字也想不起来"),
                ),
                (
                    (
                        "Then ink ran over the page, and all the work was lost",
                        "后来墨水弄黑了本子，全都白写了",
                    ),
                    ("spills ink on the page", "墨水弄黑了本子"),
                ),
            ],
            &[
                (
                    ("The lesson ended, and the children went out", "下课了，孩子们走了出去"),
                    ("goes out when the lesson ends", "下课就出去了"),
                ),
                (
                    (
                        "{h} learned half of the poem and left the rest for the next day",
                        "{h}学会了半首诗，另一半留到第二天",
                    ),
                    ("learns half of it", "学会了一半"),
                ),
            ],
        ],
    },
    TopicPhrases {
        at: ("in the Kitchen", "在厨房"),
        goes: ("went into the kitchen to make soup", "进厨房做汤"),
        goes_now: "goes into the kitchen to make soup",
        views: &[
            ("Steam covered the windows", "窗户上都是热气"),
            ("Fresh bread lay beside the fire", "火边放着新做的面包"),
            ("The fire was small and red", "火不大，红红的"),
        ],
        actions: &[
            ("put more wood on the fire", "给火里加了些木头"),
            ("gave everyone some bread", "把面包分给大家"),
            ("washed the bowls and the cups", "洗了碗和杯子"),
            ("put the big pot on the fire", "把大锅放在火上"),
            ("added a little water", "加了一点水"),
            ("washed a bowl of rice", "洗了一碗米"),
            ("tried the soup", "喝了一口汤"),
            ("gave {c} a bowl of rice", "给了{c}一碗米饭"),
        ],
        turns: [
            &[
                (
                    ("{c} said it was the best soup in the world", "{c}说这是世上最好喝的汤"),
                    ("cooks the best soup in the world", "做出了世上最好喝的汤"),
                ),
                (
                    ("Everyone asked for another bowl", "大家都要多喝一碗"),
                    ("has to fill every bowl twice", "大家都吃了两碗"),
                ),
            ],
            &[
                (
                    ("Then the soup burned, and nobody could eat it", "后来汤烧干了，谁也没喝上"),
                    ("burns it", "汤烧干了"),
                ),
                (
                    ("Then the pot fell and broke on the floor", "后来锅掉在地上，摔破了"),
                    ("breaks the pot", "锅摔破了"),
                ),
            ],
            &[
                (
                    ("The soup was neither good nor bad", "汤不好也不坏"),
                    ("makes it as it always is", "汤和平时一样"),
                ),
                (
                    ("They ate, and then they washed the bowls", "他们吃了饭，然后洗了碗"),
                    ("washes the bowls afterwards", "后来洗了碗"),
                ),
            ],
        ],
    },
    TopicPhrases {
        at: ("in the Garden", "在花园"),
        goes: ("went into the garden to plant beans", "去花园种豆子"),
        goes_now: "goes into the garden to plant beans",
        views: &[
            ("The garden was green and wild", "花园里一片绿色"),
            ("Small birds sang in the trees", "小鸟在树上唱歌"),
            ("The earth was wet and black", "土又湿又黑"),
        ],
        actions: &[
            ("gave the flowers some water", "给花浇了水"),
            ("counted the young plants", "数了数小苗"),
            ("planted a long row of beans", "种了长长的一排豆子"),
            ("gathered the dry leaves", "收了干树叶"),
            ("made a wooden gate with {c}", "和{c}一起做了一道木门"),
            ("carried water from the river", "从河里打了水"),
            ("gave {c} some flowers", "给{c}送了些花"),
            ("looked for eggs under the leaves", "在树叶下找鸡蛋"),
        ],
        turns: [
            &[
                (
                    ("Then all the flowers opened at once", "后来花一下子全开了"),
                    ("sees all the flowers open at once", "看见花全开了"),
                ),
                (
                    ("{c} had never seen such fine beans", "{c}从没见过这么好的豆子"),
                    ("grows the finest beans in the village", "种出了村里最好的豆子"),
                ),
            ],
            &[
                (
                    ("Then a goat ate every plant in the garden", "后来一只羊把园里的苗全吃了"),
                    ("loses every plant to a goat", "苗全被羊吃了"),
                ),
                (
                    (
                        "Then heavy rain came down and broke all the young plants",
                        "后来下了一场大雨，小苗全打坏了",
                    ),
                    ("loses the young plants to the rain", "小苗全被雨打坏了"),
                ),
            ],
            &[
                (
                    ("Half of the beans came up, and half did not", "豆子长出了一半，另一半没长"),
                    ("sees half of them come up", "豆子长出了一半"),
                ),
                (
                    ("When the row was full, {h} put the tools away", "种完一排，{h}把东西收好"),
                    ("fills one row", "种完了一排"),
                ),
            ],
        ],
    },
    TopicPhrases {
        at: ("at the Harbour", "在码头"),
        goes: ("went down to the harbour to catch fish", "去码头打鱼"),
        goes_now: "goes down to the harbour to catch fish",
        views: &[
            ("The boats lay beside the stone wall", "小船停在石墙旁边"),
            ("White birds cried above the water", "白鸟在水面上叫着"),
            ("The sea was flat and quiet", "海面很平静"),
        ],
        actions: &[
            ("threw the net into the water", "把网放进水里"),
            ("painted the old boat {colour}", "把旧船涂成{colour}色"),
            ("sailed out with {c}", "和{c}一起开船出海"),
            ("gathered wood on the beach", "在海边捡木头"),
            ("looked at the boats far away", "看着远处的船"),
            ("pulled the boat onto the beach", "把船拉到海边"),
            ("cleaned three silver fish", "洗了三条银色的鱼"),
            ("listened to the sea", "听着大海的声音"),
        ],
        turns: [
            &[
                (
                    ("Then the net came up full of silver fish", "后来网里装满了银色的鱼"),
                    ("fills the net", "打了满满一网鱼"),
                ),
                (
                    ("{c} gave {him} a little boat of {his} own", "{c}送给{him}一只小船"),
                    ("is given a little boat", "得到了一只小船"),
                ),
            ],
            &[
                (
                    ("Then a storm broke the old boat on the rocks", "后来大风把旧船打坏了"),
                    ("loses the old boat in a storm", "旧船被大风打坏了"),
                ),
                (
                    ("Then the net tore, and all the fish swam away", "后来网破了，鱼全跑了"),
                    ("tears the net", "网破了，鱼全跑了"),
                ),
            ],
            &[
                (
                    (
                        "There were three small fish in the net, as usual",
                        "网里和平时一样有三条小鱼",
                    ),
                    ("catches three small ones", "打到三条小鱼"),
                ),
                (
                    ("The tide went out, and {h} tied up the boat", "海水退了，{h}把船停好"),
                    ("ties up the boat when the tide goes out", "海水退了就回来了"),
                ),
            ],
        ],
    },
];

/// Deeds of a hero that may happen anywhere.
pub(super) const ACTIONS: &[Row] = &[
    ("opened the {colour} door", "打开了{colour}色的门"),
    ("sat down {spot}", "在{spot}坐了下来"),
    ("looked up at the clouds", "看了看天上的云"),
    ("waved to {c}", "向{c}招了招手"),
    ("hummed an old song", "轻轻地唱起一首老歌"),
    ("shared {food} with {c}", "和{c}分着吃了{food}"),
    ("told {c} a long story", "给{c}讲了一个很长的故事"),
    ("listened to the wind", "听着风的声音"),
    ("put on a {colour} coat", "穿上了{colour}色的外衣"),
    ("stopped {spot} to look around", "在{spot}停下来看了看"),
    ("gave {animal} something to eat", "给{animal}喂了点吃的"),
    ("wrote a line in a notebook", "在本子上写了一行字"),
    ("asked {c} about the old days", "向{c}问起从前的事"),
    ("ate {food} {spot}", "在{spot}吃了{food}"),
    ("drank a cup of hot tea", "喝了一杯热茶"),
    ("thanked {c} again and again", "向{c}谢了又谢"),
];

/// Things that went on meanwhile.
pub(super) const BACKGROUNDS: &[Row] = &[
    ("{c} was talking to a friend", "{c}和朋友说话"),
    ("{c} was drinking tea", "{c}喝茶"),
    ("{c} was looking for a book", "{c}找书"),
    ("{c} was asleep in a chair", "{c}在椅子上睡觉"),
    ("the bells were ringing", "钟声响起"),
    ("the children were singing in the street", "孩子们在路上唱歌"),
    ("{animal} was making a great noise", "{animal}叫个不停"),
    ("{c} was telling {animal} to be quiet", "{c}叫{animal}安静"),
    ("nobody was looking", "没有人看见"),
    ("the wind was rising", "起风"),
];

/// When: a phrase before the sentence.
pub(super) const TIMES: &[Row] = &[
    ("After a while,", "过了一会儿，"),
    ("Soon", "很快，"),
    ("Later", "后来，"),
    ("Then", "然后，"),
    ("Once again,", "又一次，"),
    ("A little later,", "又过了一会儿，"),
    ("Before long,", "没多久，"),
];

/// Thoughts of the hero: sentences with a clause inside.
pub(super) const THOUGHTS: &[Row] = &[
    ("{h} knew that {c} would come back before dark", "{h}知道{c}天黑前会回来"),
    (
        "{h} wondered why the {colour} door was always closed",
        "{h}不知道那道{colour}色的门为什么总是关着",
    ),
    ("{h} remembered the summer when {he} had first gone to sea", "{h}想起了第一次出海的那个夏天"),
    ("{h} said nothing, although {he} knew everything", "{h}什么都知道，可是什么也没说"),
    ("{h} did not know who was in the {colour} house", "{h}不知道谁在那座{colour}色的房子里"),
    ("{h} thought that {animal} was looking at {him}", "{h}觉得有{animal}在看{him}"),
    ("If {he} had been alone, {name} would have turned back", "要是一个人，{name}早就回去了"),
    ("The man who sold tea smiled at {name}", "卖茶的人向{name}笑了笑"),
    ("{c}, who had seen many winters, spoke slowly", "{c}见过很多个冬天，说话很慢"),
    ("{h} liked to sit {spot} when it rained", "{h}喜欢下雨的时候坐在{spot}"),
];

/// Feelings by sentiment (positive, negative, neutral); Chinese adds 很.
pub(super) const FEELINGS: [&[Row]; 3] = [
    &[("happy", "高兴"), ("pleased", "满意"), ("glad", "开心"), ("cheerful", "快乐")],
    &[("sad", "难过"), ("worried", "着急"), ("angry", "生气"), ("upset", "伤心")],
    &[("calm", "平静"), ("quiet", "安静"), ("at ease", "自在")],
];

/// Reasons of an event, by sentiment.
pub(super) const CAUSES: [&[Row]; 3] = [
    &[
        ("{c} had kept some soup for {him}", "{c}给{him}留了汤"),
        ("the work was going well", "事情做得很好"),
        ("{c} had found {his} work very good", "{c}说{he}做得很好"),
        ("an old friend had come back", "老朋友回来了"),
        ("there was good news from home", "家里来了好消息"),
    ],
    &[
        ("{c} had not waited for {him}", "{c}没有等{him}"),
        ("nobody would listen", "没有人听{him}说话"),
        ("the money was gone", "钱不见了"),
        ("{he} had lost {his} notebook", "{he}的本子不见了"),
        ("there was bad news from home", "家里来了坏消息"),
    ],
    &[
        ("the day was like any other", "这一天和平时一样"),
        ("there was no hurry", "不用着急"),
        ("{c} was telling a story", "{c}在讲故事"),
        ("there was only a little left to do", "剩下的事不多"),
    ],
];

/// Sentences of animals' doings.
pub(super) const CREATURES: &[Row] = &[
    ("{animal} slept {spot}", "{animal}在{spot}睡觉"),
    ("{animal} waited {spot}", "{animal}在{spot}等着"),
    ("{animal} looked for food {spot}", "{animal}在{spot}找吃的"),
    ("{animal} ran past {c}", "{animal}从{c}身边跑过"),
    ("{name} saw {animal} {spot}", "{name}看见{animal}在{spot}"),
    ("{animal} stole {food} from {c}", "{animal}偷吃了{c}的{food}"),
    ("There was {animal} {spot}, and it would not move", "{animal}在{spot}，怎么也不走"),
];

/// Sentences that people say in passing.
pub(super) const REMARKS: &[Row] = &[
    ("It may rain tonight", "今晚可能会下雨"),
    ("The bread is good today", "今天的面包很好吃"),
    ("You have grown so tall", "你长高了"),
    ("The train is late again", "火车又晚了"),
    ("Come in and have some tea", "进来喝杯茶吧"),
    ("Mind your step", "小心脚下"),
    ("I have not seen you for a long time", "好久不见"),
    ("Nothing ever changes here", "这里什么都没变"),
    ("There is always more to do", "事情总是做不完"),
    ("My old house is too quiet", "我的老房子太安静了"),
    ("The winter will be long this year", "今年冬天会很长"),
    ("Have {food}", "吃{food}吧"),
    ("Tell your friends that I was here", "和你的朋友说一声，我来过了"),
    ("Your {colour} coat looks good", "你的{colour}色外衣很好看"),
];

/// How it is said.
pub(super) const SAYING: &[Row] =
    &[("said", "说"), ("whispered", "小声说"), ("called", "喊道"), ("repeated", "又说")];

/// Questions in passing and their answers.
pub(super) const EXCHANGES: &[(Row, Row)] = &[
    (("Where are you going?", "你去哪儿？"), ("Only to the river", "就去河边")),
    (("Would you like some tea?", "你喝茶吗？"), ("A little", "喝一点")),
    (("Did you sleep well?", "你睡得好吗？"), ("Very well, thank you", "很好，谢谢")),
    (("Have you seen my cat?", "你看见我的猫了吗？"), ("It is on the roof", "它在屋顶上")),
    (("How is your friend?", "你的朋友好吗？"), ("He is well", "他很好")),
    (("Is the sea far away?", "大海远吗？"), ("Not very far", "不太远")),
    (("Can you help me?", "你能帮我吗？"), ("Yes, I can", "能")),
    (("Do you like this song?", "你喜欢这首歌吗？"), ("I have never heard it", "我没听过")),
    (("Will it snow?", "会下雪吗？"), ("Not this year", "今年不会")),
    (("What shall we eat?", "我们吃什么？"), ("Rice, as always", "和平时一样，米饭")),
    (("Why are you smiling?", "你笑什么？"), ("I thought of an old joke", "我想起一个老笑话")),
    (("May I sit here?", "我能坐这儿吗？"), ("Please do", "请坐")),
];

/// Scenery that passes around everyone.
pub(super) const MOODS: &[Row] = &[
    ("The wind turned cold", "风变冷了"),
    ("For a moment all was still", "有一会儿，到处都很安静"),
    ("The air smelled of wet leaves", "空气里有湿树叶的味道"),
    ("Somewhere a door closed", "不知哪里有人关了门"),
    ("Nobody was in a hurry", "谁都不着急"),
    ("A bell rang in the distance", "远处响起了钟声"),
    ("The clouds moved slowly over the roofs", "云慢慢地从屋顶上过去"),
    ("Two old men were drinking tea", "两个老人在喝茶"),
    ("A few drops of rain fell and stopped", "下了几点雨，又停了"),
];

/// Very short sentences; they make a distance come out right.
pub(super) const SHORTS: &[Row] = &[
    ("Good.", "好。"),
    ("Hush!", "听！"),
    ("It rained.", "下雨了。"),
    ("Birds sang.", "鸟叫了。"),
    ("Nobody spoke.", "没人说话。"),
    ("The wind rose.", "起风了。"),
    ("All was quiet.", "到处都很安静。"),
    ("A cart rolled by.", "一辆小车过去了。"),
    ("Time passed slowly.", "时间过得很慢。"),
    ("A child laughed aloud.", "有个孩子大声笑起来。"),
    ("Nobody said a single word.", "谁都没有说一句话。"),
    ("The old clock struck the hour.", "墙上的老钟响了好几下。"),
];

/// Deeds of the people who hold things, beside holding them.
pub(super) const WANDERINGS: &[Row] = &[
    ("{p} waved from the bridge", "{p}在桥上招手"),
    ("{p} ran across the square", "{p}跑过广场"),
    ("{p} sat {spot}", "{p}坐在{spot}"),
    ("{p} said hello to {name}", "{p}向{name}问好"),
    ("{p} was talking to {c} {spot}", "{p}在{spot}和{c}说话"),
];

/// How someone comes by a thing that nobody holds.
pub(super) const TAKINGS: &[Row] = &[
    ("{p} found {athing} {spot}", "{p}在{spot}找到了{athing}"),
    ("{p} bought {athing} from {c}", "{p}向{c}买了{athing}"),
    ("{p} picked up {athing} {spot}", "{p}在{spot}捡到了{athing}"),
    ("{c} gave {athing} to {p}", "{c}把{athing}送给了{p}"),
];

/// How a thing goes from `{p}` to `{q}`.
pub(super) const GIVINGS: &[Row] = &[
    ("{p} gave the {thing} to {q}", "{p}把{thing}给了{q}"),
    ("{p} passed the {thing} on to {q}", "{p}把{thing}交给了{q}"),
    ("{p} met {q} {spot} and handed over the {thing}", "{p}在{spot}遇见{q}，把{thing}交了过去"),
    ("{p} did not need the {thing} any more, so {q} took it", "{p}用不着{thing}了，{q}就拿走了"),
];

/// The question who holds a thing, as stories ask it too.
pub(super) const WHO_HAS: Row = ("Who has the {thing}?", "谁拿着{thing}？");
/// The question where someone came by a thing that nobody held.
pub(super) const WHERE_FOUND: Row = ("Where was the {thing} found?", "{thing}是在哪儿找到的？");

/// The last sentence, by sentiment.
pub(super) const CLOSINGS: [&[Row]; 3] = [
    &[
        ("{h} went home singing", "{h}唱着歌回家了"),
        ("That night {h} fell asleep with a smile", "那天夜里，{h}笑着睡着了"),
        ("It was the best day of the year", "这是一年里最好的一天"),
        ("Everyone laughed, and {h} laughed the loudest", "大家都笑了，{h}笑得最大声"),
    ],
    &[
        ("{h} went home in silence, close to tears", "{h}一句话也不说，哭着回了家"),
        ("That night {h} could not sleep", "那天夜里，{h}怎么也睡不着"),
        ("It was a day that {h} wanted to forget", "这是{h}想忘掉的一天"),
        ("Nobody spoke on the way home", "回家的路上，谁也不说话"),
    ],
    &[
        ("{h} went home at the usual hour", "{h}和平时一样回家了"),
        ("Then {h} closed the door and went to bed", "然后{h}关上门睡觉了"),
        ("The next day would be much the same", "第二天也和这一天一样"),
        ("So the day ended", "一天就这样过去了"),
    ],
];

/// Seasons, parts of the day and the weather that goes with any of them.
pub(super) const SEASONS: [Row; 4] =
    [("spring", "春天"), ("summer", "夏天"), ("autumn", "秋天"), ("winter", "冬天")];
/// Parts of the day.
pub(super) const PARTS: [Row; 3] =
    [("morning", "早上"), ("afternoon", "下午"), ("evening", "晚上")];
/// Weather, as a clause.
pub(super) const WEATHERS: [Row; 6] = [
    ("the sun was bright", "太阳很好"),
    ("a soft rain was falling", "天下着小雨"),
    ("the wind from the hills was cold", "山上的风很冷"),
    ("a thick fog hid the river", "河上起了大雾"),
    ("grey clouds hung over the fields", "田野上都是灰色的云"),
    ("the air was clear and still", "空气很干净，没有风"),
];
/// The first sentences: `{season}` (`{aseason}` with article), `{part}`, `{weather}` and
/// `{goes}` are the scene's.
pub(super) const OPENINGS: &[Row] = &[
    (
        "It was {aseason} {part}, and {weather}. {name} {goes} with {c}",
        "{season}的一个{part}，{weather}。{name}和{c}一起{goes}",
    ),
    (
        "One {season} {part}, when {weather}, {name} {goes}",
        "{season}的一个{part}，{weather}，{name}{goes}",
    ),
    (
        "{name} {goes} one {part} in {season}. {c} came too, and {weather}",
        "{season}的一个{part}，{name}{goes}。{c}也来了，{weather}",
    ),
    (
        "There was once a child called {name}. One {part} in {season}, {he} {goes}",
        "从前有个孩子叫{name}。{season}的一个{part}，{he}{goes}",
    ),
];
