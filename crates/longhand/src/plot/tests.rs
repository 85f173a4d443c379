use super::*;

/// Draws into a folder of its own and gives the image's size and the number of its colours.
fn drawn(draw: impl FnOnce(&Path) -> Result<(), PlotError>) -> (u32, u32, usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plot.png");
    draw(&path).unwrap();
    if let Some(kept) = std::env::var_os("LONGHAND_KEEP_PLOTS") {
        let name = std::thread::current().name().unwrap().replace("::", "-");
        fs_err::copy(&path, Path::new(&kept).join(format!("{name}.png"))).unwrap();
    }
    let file = std::io::BufReader::new(fs_err::File::open(&path).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    let colours: std::collections::HashSet<&[u8]> = pixels.chunks(3).collect();
    (info.width, info.height, colours.len())
}

#[test]
fn curves_of_every_length_are_drawn() {
    let curve = |scale: f64| {
        (0..=400).map(|i| (i as f64 * 10.0, scale + 2.5 / (1.0 + i as f64 / 30.0))).collect()
    };
    let few = (0..9).map(|i| (i as f64 * 500.0, 2.6 - i as f64 * 0.1)).collect();
    let series = [
        ("both memories", curve(1.4)),
        ("long memory alone", curve(1.6)),
        ("working memory alone", curve(1.75)),
        ("验证 validation", few),
        ("one point", vec![(2000.0, 3.5)]),
    ];
    let (width, height, colours) =
        drawn(|path| lines(path, "Loss over steps · 训练", "step", "nats per character", &series));
    assert_eq!((width, height), (1600, 1000));
    assert!(colours > 100);
}

#[test]
fn awkward_curves_are_drawn_or_refused() {
    let flat = [("flat", vec![(1.0, 3.0), (2.0, 3.0)]), ("empty", vec![])];
    drawn(|path| lines(path, "flat", "", "", &flat));
    let holes = [("holes", vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, -1e-9), (3.0, 1e12)])];
    drawn(|path| lines(path, "holes", "x", "y", &holes));
    let nothing = [("none", vec![(f64::INFINITY, 1.0)])];
    let error = lines(Path::new("never.png"), "nothing", "", "", &nothing).unwrap_err();
    assert!(error.to_string().contains("'nothing' has no finite value"));
}

fn panel<'a>(form: PanelForm, series: Vec<(&'a str, Vec<f64>)>) -> Panel<'a> {
    Panel { title: "a panel", form, range: None, series }
}

#[test]
fn panels_wrap_over_rows() {
    let text = "Ann carries the lamp to the old harbour and waits . 安 把 灯 带 到 港 口 \n \
                Who has the lamp ? extraordinarily long tokens are cut";
    let labels: Vec<String> = text.split(' ').cycle().take(90).map(str::to_owned).collect();
    let wave = |offset: f64| -> Vec<f64> {
        (0..labels.len()).map(|i| ((i as f64 * 0.7 + offset).sin() + 0.8) * 0.4).collect()
    };
    let bars = vec![("working memory", wave(0.0)), ("long memory", wave(2.0))];
    let shares = Panel {
        range: Some((0.0, 1.0)),
        ..panel(
            PanelForm::Bars,
            vec![("working memory", vec![0.3; 90]), ("long memory", vec![0.7; 90])],
        )
    };
    let curves = vec![("input gate", wave(4.0)), ("forget gate", wave(5.0))];
    let title = "What each memory contributed";
    let one = [panel(PanelForm::Bars, bars.clone())];
    let (width, low, _) = drawn(|path| token_panels(path, title, &labels, &one));
    let all = [panel(PanelForm::Bars, bars), shares, panel(PanelForm::Curves, curves)];
    let (_, height, colours) = drawn(|path| token_panels(path, title, &labels, &all));
    assert_eq!(width, 1800);
    assert!(low > 900, "several rows, not {low}");
    assert!(height > low + 600, "further panels, {height} after {low}");
    assert!(colours > 20);
}

#[test]
fn awkward_panels_are_drawn_or_refused() {
    let path = Path::new("never.png");
    let labels = vec!["a".to_owned(), "b".to_owned()];
    let refused = |labels: &[String], values: Vec<f64>| {
        let panels = [panel(PanelForm::Bars, vec![("s", values)])];
        token_panels(path, "t", labels, &panels).unwrap_err()
    };
    let error = refused(&labels, vec![1.0]);
    assert!(error.to_string().contains("2 labels, but its series 's' has 1 values"));
    assert!(matches!(refused(&[], vec![]), PlotError::Empty { .. }));
    let holes = || vec![("s", vec![f64::NAN, 0.0]), ("negative", vec![-2.0, 1.0])];
    let panels = [panel(PanelForm::Bars, holes()), panel(PanelForm::Curves, holes())];
    drawn(|path| token_panels(path, "one", &labels, &panels));
}

/// 4,096 tokens with one of ten wide letters took more than a gigabyte.
#[test]
fn an_image_is_of_bounded_size_whatever_the_labels() {
    let path = Path::new("never.png");
    for label in ["中文字符中文字符中文", ""] {
        let labels = vec![label.to_owned(); 20_000];
        let panels = [panel(PanelForm::Bars, vec![("s", vec![1.0; 20_000])])];
        let error = token_panels(path, "t", &labels, &panels).unwrap_err();
        let PlotError::TooManyTokens { most, .. } = error else { panic!("{error}") };
        assert!((300..6000).contains(&most), "{most}");
    }
}

#[test]
fn an_unwritable_path_is_named() {
    let points = [("s", vec![(0.0, 1.0)])];
    let error = lines(Path::new("no/such/folder/p.png"), "t", "", "", &points).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("no/such/folder"), "{error}: {cause}");
}
