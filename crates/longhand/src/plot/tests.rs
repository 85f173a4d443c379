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

#[test]
fn bars_wrap_over_rows() {
    let text = "Ann carries the lamp to the old harbour and waits . 安 把 灯 带 到 港 口 \n \
                Who has the lamp ? extraordinarily long tokens are cut";
    let labels: Vec<String> = text.split(' ').cycle().take(90).map(str::to_owned).collect();
    let wave = |offset: f64| {
        (0..labels.len()).map(|i| ((i as f64 * 0.7 + offset).sin() + 0.8) * 0.4).collect()
    };
    let series = [("working memory", wave(0.0)), ("long memory", wave(2.0)), ("both", wave(4.0))];
    let (width, height, colours) =
        drawn(|path| stacked_bars(path, "What each memory contributed", &labels, &series));
    assert_eq!(width, 1800);
    assert!(height > 900, "several rows, not {height}");
    assert!(colours > 20);
}

#[test]
fn awkward_bars_are_drawn_or_refused() {
    let path = Path::new("never.png");
    let labels = vec!["a".to_owned(), "b".to_owned()];
    let error = stacked_bars(path, "t", &labels, &[("s", vec![1.0])]).unwrap_err();
    assert!(error.to_string().contains("2 labels, but its series 's' has 1 values"));
    assert!(matches!(stacked_bars(path, "t", &[], &[("s", vec![])]), Err(PlotError::Empty { .. })));
    let many = vec![String::new(); 5000];
    assert!(matches!(
        stacked_bars(path, "t", &many, &[("s", vec![1.0; 5000])]),
        Err(PlotError::TooManyBars { labels: 5000, .. })
    ));
    drawn(|path| stacked_bars(path, "one", &labels, &[("s", vec![f64::NAN, 0.0])]));
}

#[test]
fn an_unwritable_path_is_named() {
    let points = [("s", vec![(0.0, 1.0)])];
    let error = lines(Path::new("no/such/folder/p.png"), "t", "", "", &points).unwrap_err();
    assert!(error.to_string().contains("no/such/folder"));
}
