use super::*;

fn written(lists: &Lists, weights: &Weights) -> String {
    let mut out = Vec::new();
    lists.write(&mut out, weights, &lists.order(weights)).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn lists_of_moses_come_out_in_a_new_order() {
    let text = "7 ||| a b ||| LM0= -1 -2 TM=-3 ||| -4.5 ||| 0-0\r\n\
                7 ||| c ||| LM0= -2 -1 TM= 0.5 ||| -5\n\n\
                x1 |||  ||| ||| -1\n\
                7 ||| d ||| LM0= 0 0 ||| -6e0\n";
    let mut lists = Lists::parse(text, "a").unwrap();
    assert_eq!(lists.features(), ["score", "LM0", "LM0_2", "TM"]);
    let sizes: Vec<_> =
        lists.lists().iter().map(|list| (list.id(), list.hypotheses().len())).collect();
    assert_eq!(sizes, [("7", 3), ("x1", 1)]);
    assert_eq!(lists.texts().collect::<Vec<_>>(), ["a b", "c", "d", ""]);
    assert_eq!(lists.lists()[0].hypotheses()[1].values, [-5.0, -2.0, -1.0, 0.5]);
    assert_eq!(lists.lists()[0].hypotheses()[2].value(3), 0.0);
    lists.add("lm", vec![-9.0, -7.0, -3.0, -1.0]).unwrap();
    let weights = Weights::of(lists.features(), [("score", 1.0), ("lm", 1.0)]).unwrap();
    assert_eq!(
        written(&lists, &weights),
        "7 ||| d ||| LM0= 0 0 lm= -3.0000 ||| -9.0000\n\
         7 ||| c ||| LM0= -2 -1 TM= 0.5 lm= -7.0000 ||| -12.0000\n\
         7 ||| a b ||| LM0= -1 -2 TM=-3 lm= -9.0000 ||| -13.5000 ||| 0-0\n\
         x1 |||  ||| lm= -1.0000 ||| -2.0000\n"
    );
    // What comes out is read again as it came in.
    let again = Lists::parse(&written(&lists, &weights), "b").unwrap();
    assert_eq!(again.lists()[0].hypotheses()[0].text(), "d");
    // `TM` comes after it, because the first hypothesis of the new order has none.
    assert_eq!(again.features(), ["score", "LM0", "LM0_2", "lm", "TM"]);
}

#[test]
fn equal_totals_stay_in_order() {
    let lists = Lists::parse("0 ||| a\n0 ||| b\n0 ||| c\n", "a").unwrap();
    assert!(lists.features().is_empty());
    let weights = Weights::of(lists.features(), []).unwrap();
    assert_eq!(lists.order(&weights), [[0, 1, 2]]);
    assert_eq!(lists.lists()[0].best(|_| 1.0), 0);
}

#[test]
fn lists_of_json_keep_what_else_they_hold() {
    let text = "{\"id\": 3, \"text\": \"a\", \"score\": -1, \"features\": {\"tm\": 2}, \"more\": [1]}\n\
                {\"id\": 3, \"text\": \"b\", \"score\": -2}\n";
    let mut lists = Lists::parse(text, "a").unwrap();
    assert_eq!(lists.features(), ["score", "tm"]);
    lists.add("lm", vec![-5.0, -1.0]).unwrap();
    let weights = Weights::of(lists.features(), [("score", 1.0), ("lm", 1.0)]).unwrap();
    assert_eq!(
        written(&lists, &weights),
        "{\"id\":3,\"text\":\"b\",\"score\":-2,\"lm\":-1.0,\"total\":-3.0}\n\
         {\"id\":3,\"text\":\"a\",\"score\":-1,\"features\":{\"tm\":2},\"more\":[1],\"lm\":-5.0,\
         \"total\":-6.0}\n"
    );
    let text = "{\"source\": \"x\", \"nbest\": [{\"text\": \"a\", \"score\": -1}, {\"text\": \"b\", \
                \"score\": -2}]}\n{\"nbest\": [{\"output\": \"c\"}]}\n";
    let mut lists = Lists::parse(text, "a").unwrap();
    let ids: Vec<_> = lists.lists().iter().map(List::id).collect();
    assert_eq!(ids, ["0", "1"]);
    lists.add("lm", vec![-5.0, -1.0, -2.0]).unwrap();
    let weights = Weights::of(lists.features(), [("lm", 1.0)]).unwrap();
    assert_eq!(
        written(&lists, &weights),
        "{\"source\":\"x\",\"nbest\":[{\"text\":\"b\",\"score\":-2,\"lm\":-1.0,\"total\":-1.0},\
         {\"text\":\"a\",\"score\":-1,\"lm\":-5.0,\"total\":-5.0}]}\n\
         {\"nbest\":[{\"output\":\"c\",\"lm\":-2.0,\"total\":-2.0}]}\n"
    );
}

/// A text with the separator, or with line breaks, is read as one text again.
#[test]
fn a_text_is_no_more_than_one_field() {
    assert_eq!(field("a ||| b\r\nc | d || e"), "a | | | b  c | d || e");
    for text in ["|||", "|||||", "a||||||b", "||| 0.5 |||", "x|", "x||"] {
        let line = format!("0 ||| {} ||| {LOG_PROBABILITY}= -2 ||| -1\n", field(text));
        let lists = Lists::parse(&line, "a").unwrap();
        assert_eq!(lists.lists()[0].hypotheses()[0].text(), field(text));
        assert_eq!(lists.lists()[0].hypotheses()[0].values, [-1.0, -2.0]);
    }
}

#[test]
fn a_log_probability_of_json_is_a_feature() {
    let text = "{\"hypotheses\": [{\"text\": \"a\", \"score\": -1, \"log_probability\": -3.5}, \
                {\"text\": \"b\", \"score\": null, \"log_probability\": null}]}\n";
    let lists = Lists::parse(text, "a").unwrap();
    assert_eq!(lists.features(), ["score", LOG_PROBABILITY]);
    assert_eq!(lists.lists()[0].hypotheses()[0].values, [-1.0, -3.5]);
    assert_eq!(lists.lists()[0].hypotheses()[1].value(1), 0.0);
}

#[test]
fn what_is_wrong_is_told_in_a_sentence() {
    let fault = |text: &str| Lists::parse(text, "x.nbest").unwrap_err().to_string();
    let no_id = "x.nbest, line 2: it has no id: give lines of `id ||| text ||| features ||| score`";
    for line in [
        "just a text",
        " ||| text ||| ||| 1",
        "{\"text\": \"a\"}",
        "{\"id\": null, \"text\": \"a\"}",
    ] {
        let told = fault(&format!("0 ||| a\n{line}\n"));
        assert!(told.starts_with(no_id), "{line}: {told}");
    }
    assert!(fault("0 ||| a ||| ||| high\n").contains("`high` is not a finite number"));
    assert!(fault("0 ||| a ||| LM= NaN ||| 1\n").contains("`NaN` is not a finite number"));
    assert!(fault("{\"id\": 1}\n").ends_with("it has no text"));
    assert!(
        fault("{\"id\": 1, \"text\": \"a\", \"score\": \"b\"}\n").contains("not a finite number")
    );
    assert!(fault("{\"nbest\": []}\n").contains("no hypothesis in its list"));
    assert!(fault("{\"nbest\": [3]}\n").contains("no object for each hypothesis"));
    assert!(fault("{\"id\": 1,\n").contains("line 1: "));
    assert!(fault("\n\n").contains("holds no hypothesis"));
    let mut lists = Lists::parse("0 ||| a ||| lm= 1\n", "a").unwrap();
    assert!(lists.check_free("lm").unwrap_err().to_string().contains("rename theirs"));
    assert_eq!(lists.check_free("words"), Ok(()));
    assert!(lists.add("lm", vec![1.0]).unwrap_err().to_string().contains("`lm` already"));
    assert!(lists.add("words", vec![]).unwrap_err().to_string().contains("0 values for 1"));
    let weight = |name: &str, value| Weights::of(lists.features(), [(name, value)]).unwrap_err();
    assert_eq!(weight("tm", 1.0).to_string(), "there is no feature `tm`: the lists have lm");
    assert!(weight("lm", f64::NAN).to_string().contains("must be a finite number"));
}

#[test]
fn features_are_divided_by_the_words_and_the_end() {
    let mut lists =
        Lists::parse("0 ||| a b ||| tm= -6 logprob= -3 ||| -9\n0 ||| a\n", "a").unwrap();
    lists.per_word(|name| name != "tm");
    let values: Vec<&[f64]> =
        lists.lists()[0].hypotheses().iter().map(|one| one.values()).collect();
    assert_eq!(lists.features(), ["score", "tm", "logprob"]);
    assert_eq!(values[0], [-3.0, -6.0, -1.0]);
    assert_eq!(lists.lists()[0].hypotheses()[1].value(0), 0.0);
}
