use super::*;

fn mistake(example: usize, probability: f64) -> Mistake {
    Mistake {
        example,
        texts: vec![format!("text <{example}> & more")],
        truth: "good".into(),
        answer: "bad".into(),
        probability: Some(probability),
        explanations: Vec::new(),
    }
}

#[test]
fn a_page_holds_every_number_and_nothing_of_a_text_is_markup() {
    let mut confusion = Confusion::new(2);
    (0..7).for_each(|_| confusion.add(0, 0));
    (0..13).for_each(|_| confusion.add(0, 1));
    let names = vec!["<good>".to_owned(), "bad".to_owned()];
    let classes: Vec<_> = names.iter().cloned().zip(confusion.classes()).collect();
    let page = Page {
        model: "folder".into(),
        task: "classify",
        examples: 20,
        loss: Some(1.25),
        metrics: &[("macro_f1".to_owned(), 0.512_34)].into(),
        intervals: &[("macro_f1".to_owned(), Interval { low: 0.41, high: 0.61 })].into(),
        confusion: Some(&(names, confusion)),
        classes: &classes,
        sure: vec![(0.95, true), (0.91, false), (0.5, true)],
        curve: vec![Evaluated { step: 10, loss: 0.9 }, Evaluated { step: 40, loss: 0.3 }],
        mistakes: (0..150).map(|place| mistake(place, f64::from(place as u32) / 150.0)).collect(),
    };
    let html = page.html();
    for part in ["0.5123", "0.4100 to 0.6100", ">13<", "recall 0.350", "&lt;good&gt;", "0.900"] {
        assert!(html.contains(part), "{part}");
    }
    assert!(!html.contains("<good>") && !html.contains("text <"));
    assert!(html.contains("text &lt;149&gt; &amp; more") && html.contains("100 of 150"));
    assert!(!html.contains("text &lt;49&gt;"), "the surest mistakes alone are shown");
    // Nothing is fetched.
    assert!(!html.contains("http") && !html.contains("<script"));
}

#[test]
fn what_is_not_known_has_no_part_of_the_page() {
    let page = Page {
        model: "folder".into(),
        task: "tag",
        examples: 0,
        loss: None,
        metrics: &BTreeMap::new(),
        intervals: &BTreeMap::new(),
        confusion: None,
        classes: &[],
        sure: Vec::new(),
        curve: vec![Evaluated { step: 1, loss: 0.5 }],
        mistakes: Vec::new(),
    };
    let html = page.html();
    let absent = ["<svg", "Wrong", "mean loss"];
    assert!(absent.iter().all(|part| !html.contains(part)), "{html}");
}

#[test]
fn bins_hold_their_upper_bounds() {
    let bins = bins(&[(0.1, true), (0.11, false), (0.0, true), (1.0, true), (0.95, false)]);
    assert_eq!(bins[0], Bin { answers: 2, probability: 0.05, right: 1.0 });
    assert_eq!((bins[1].answers, bins[1].right), (1, 0.0));
    assert_eq!((bins[9].answers, bins[9].right), (2, 0.5));
}
