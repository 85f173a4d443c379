use std::sync::Arc;

use ::parquet::data_type::{ByteArrayType, Int32Type};
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::record::Field;
use ::parquet::schema::parser::parse_message_type;

use super::super::further::NumberKind;
use super::*;

fn columns() -> Vec<FurtherColumn> {
    let column = |name: &str, kind| FurtherColumn { name: name.to_owned(), kind };
    vec![column("tokens", NumberKind::Whole), column("mean", NumberKind::Real)]
}

/// The length of each text, and half of it unless it is empty.
fn lengths(texts: &[String]) -> Result<Vec<FurtherCells>, TextError> {
    let cells = |text: &String| {
        let length = text.len() as f64;
        vec![Some(length), (length > 0.0).then_some(length / 2.0)]
    };
    Ok(texts.iter().map(cells).collect())
}

fn append(name: &str, bytes: &[u8], text: Column) -> Result<Vec<u8>, TextError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs_err::write(&path, bytes).unwrap();
    let options = AppendOptions { format: None, text, lossy: false };
    let mut out = Vec::new();
    append_columns(&path, &options, &columns(), &mut out, &mut lengths)?;
    Ok(out)
}

fn plain(name: &str, text: &str, column: Column) -> Result<String, String> {
    let out = append(name, text.as_bytes(), column).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

fn named(name: &str) -> Column {
    Column::Name(name.to_owned())
}

#[test]
fn tables_of_text_come_out_with_further_columns() {
    let csv = "id,text\r\n1,\"two\nlines, \"\"so\"\"\"\n2,\n3,abc\n";
    let expected = "id,text,tokens,mean\n1,\"two\nlines, \"\"so\"\"\",15,7.5\n2,,0,\n3,abc,3,1.5\n";
    assert_eq!(plain("a.csv", csv, named("text")).unwrap(), expected);
    assert_eq!(
        plain("a.tsv", "a\tb c\nd\n", Column::Index(0)).unwrap(),
        "a\tb c\t1\t0.5\nd\t\t1\t0.5\n"
    );
    let json = "{\"doc\": {\"x\": \"ab\"}, \"z\": 1.50 }\n\n{\"doc\":{\"x\":\"\"}}\n";
    assert_eq!(
        plain("a.jsonl", json, named("doc.x")).unwrap(),
        "{\"doc\": {\"x\": \"ab\"}, \"z\": 1.50,\"tokens\":2,\"mean\":1.0}\n\
         {\"doc\":{\"x\":\"\"},\"tokens\":0,\"mean\":null}\n"
    );
}

#[test]
fn many_rows_come_out_in_order() {
    let rows: String = (0..ROWS * 2 + 3).map(|i| format!("{{\"text\":\"{i}\"}}\n")).collect();
    let out = plain("a.jsonl", &rows, named("text")).unwrap();
    assert_eq!(out.lines().count(), ROWS * 2 + 3);
    for (i, line) in out.lines().enumerate() {
        assert!(line.starts_with(&format!("{{\"text\":\"{i}\",\"tokens\":")), "{line}");
    }
}

#[test]
fn what_cannot_be_written_again_is_refused_in_a_sentence() {
    let fault = |name: &str, text: &str| plain(name, text, named("text")).unwrap_err();
    let taken = fault("a.jsonl", "{\"text\":\"a\"}\n{\"text\":\"a\",\"mean\":1}\n");
    assert!(taken.contains("row 2, has a column \"mean\" already"), "{taken}");
    assert!(fault("a.csv", "text,tokens\na,1\n").contains("has a column \"tokens\" already"));
    assert!(fault("a.csv", "id\n1\n").contains("text"));
    assert!(fault("a.csv", "text\n\"a\n").contains("never closed"));
    assert!(fault("a.csv", "").contains("is empty"));
    assert!(fault("a.txt", "text\n").contains("jsonl, csv, tsv or parquet"));
    assert!(fault("a.parquet", "PAR1 nothing PAR1").contains("cannot be read as a table"));
}

/// A Parquet file of two row groups with a column that is no text and one with nulls.
fn parquet(rows: &[&[(i32, Option<&str>)]]) -> Vec<u8> {
    let schema = "message m { required int32 id; optional binary text (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let pair = |key: &str| KeyValue { key: key.to_owned(), value: Some("x".into()) };
    let properties = WriterProperties::builder()
        .set_key_value_metadata(Some(vec![pair("ARROW:schema"), pair("origin")]))
        .build();
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).unwrap();
    for rows in rows {
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let ids: Vec<i32> = rows.iter().map(|row| row.0).collect();
        column.typed::<Int32Type>().write_batch(&ids, None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let levels: Vec<i16> = rows.iter().map(|row| i16::from(row.1.is_some())).collect();
        let texts: Vec<_> = rows.iter().filter_map(|row| row.1.map(Into::into)).collect();
        column.typed::<ByteArrayType>().write_batch(&texts, Some(&levels), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
    bytes
}

#[test]
fn parquet_keeps_its_columns_and_gets_further_ones() {
    let groups: [&[(i32, Option<&str>)]; 2] =
        [&[(7, Some("ab")), (8, None)], &[(9, Some("")), (10, Some("梅abc")), (11, Some("x"))]];
    let out = append("a.parquet", &parquet(&groups), named("text")).unwrap();
    let reader = SerializedFileReader::new(bytes::Bytes::from(out)).unwrap();
    let file = reader.metadata().file_metadata();
    let keys: Vec<&str> =
        file.key_value_metadata().unwrap().iter().map(|pair| pair.key.as_str()).collect();
    assert_eq!(keys, ["origin"]);
    assert_eq!(reader.metadata().num_row_groups(), 2);
    let rows: Vec<Vec<Field>> = reader
        .get_row_iter(None)
        .unwrap()
        .map(|row| row.unwrap().get_column_iter().map(|(_, field)| field.clone()).collect())
        .collect();
    let text = |text: &str| Field::Str(text.to_owned());
    let expected = [
        [Field::Int(7), text("ab"), Field::Long(2), Field::Double(1.0)],
        [Field::Int(8), Field::Null, Field::Long(0), Field::Null],
        [Field::Int(9), text(""), Field::Long(0), Field::Null],
        [Field::Int(10), text("梅abc"), Field::Long(6), Field::Double(3.0)],
        [Field::Int(11), text("x"), Field::Long(1), Field::Double(0.5)],
    ];
    assert_eq!(rows, expected);

    // What was written can be read, and written, again.
    let error = append("b.parquet", &parquet(&[&[(1, Some("a"))]]), named("id")).unwrap();
    assert!(!error.is_empty());
    let missing = append("c.parquet", &parquet(&[]), named("other")).unwrap_err().to_string();
    assert!(missing.contains("other"), "{missing}");
}
