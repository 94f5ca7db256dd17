// Holds your functions against a file of vectors. Rust 2021, no crate:
//   rustc --edition 2021 -O harness.rs && ./harness vectors-1.0.safetensors
use std::collections::HashMap;

type Real = f64; // what you compute in; for f32 ...
const DTYPE: &str = "float64"; // ... this is "float32"

#[derive(Clone)]
struct Array {
    shape: Vec<usize>, // row-major: the last axis is contiguous
    data: Vec<Real>,
}
type Arrays = HashMap<String, Array>;

// ---- Your functions: arrays and options in, results by name out.

fn softmax(inputs: &Arrays, _options: &Json) -> Arrays {
    let mut y = inputs["x"].clone();
    for row in y.data.chunks_mut(*y.shape.last().unwrap()) {
        let largest = row.iter().copied().fold(Real::NEG_INFINITY, Real::max);
        row.iter_mut().for_each(|x| *x = (*x - largest).exp());
        let sum: Real = row.iter().sum();
        row.iter_mut().for_each(|x| *x /= sum);
    }
    HashMap::from([("y".to_string(), y)])
}

fn layer_norm(inputs: &Arrays, options: &Json) -> Arrays {
    let mut y = inputs["x"].clone();
    let d = *y.shape.last().unwrap();
    // What is not among the options has its default, and an array left out is not used.
    let eps = options.find("eps").map_or(1e-5, |eps| eps.number()) as Real;
    for row in y.data.chunks_mut(d) {
        let mean = row.iter().sum::<Real>() / d as Real;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<Real>() / d as Real;
        for (i, x) in row.iter_mut().enumerate() {
            let gain = inputs.get("gain").map_or(1.0, |gain| gain.data[i]);
            let bias = inputs.get("bias").map_or(0.0, |bias| bias.data[i]);
            *x = (*x - mean) / (variance + eps).sqrt() * gain + bias;
        }
    }
    HashMap::from([("y".to_string(), y)])
}

fn functions() -> HashMap<&'static str, fn(&Arrays, &Json) -> Arrays> {
    let mut functions: HashMap<&str, fn(&Arrays, &Json) -> Arrays> = HashMap::new();
    functions.insert("softmax", softmax);
    functions.insert("layer_norm", layer_norm);
    functions
}

// ---- The file, and the comparison.

enum Json {
    Text(String), // a string, and a number, true, false or null as it is written
    List(Vec<Json>),
    Object(HashMap<String, Json>),
}

impl Json {
    fn parse(bytes: &[u8], at: &mut usize) -> Json {
        let skip = |at: &mut usize| while b" \t\r\n,:".contains(&bytes[*at]) { *at += 1 };
        skip(at);
        let first = bytes[*at];
        let mut text = Vec::new();
        if first == b'{' || first == b'[' {
            let (mut items, mut fields) = (Vec::new(), HashMap::new());
            *at += 1;
            skip(at);
            while !b"}]".contains(&bytes[*at]) {
                let item = Json::parse(bytes, at);
                if first == b'[' {
                    items.push(item);
                } else {
                    fields.insert(item.text().to_string(), Json::parse(bytes, at));
                }
                skip(at);
            }
            *at += 1;
            return if first == b'[' { Json::List(items) } else { Json::Object(fields) };
        } else if first == b'"' {
            *at += 1;
            while bytes[*at] != b'"' {
                let escaped = bytes[*at] == b'\\';
                *at += escaped as usize;
                let newline = escaped && bytes[*at] == b'n';
                text.push(if newline { b'\n' } else { bytes[*at] }); // \u stands in prose alone
                *at += 1;
            }
            *at += 1;
        } else {
            while !b",]} \n".contains(&bytes[*at]) {
                text.push(bytes[*at]);
                *at += 1;
            }
        }
        Json::Text(String::from_utf8(text).expect("UTF-8"))
    }

    fn find(&self, key: &str) -> Option<&Json> {
        if let Json::Object(fields) = self { fields.get(key) } else { None }
    }

    fn get(&self, key: &str) -> &Json {
        self.find(key).unwrap_or_else(|| panic!("expected the key {key}"))
    }

    fn items(&self) -> &[Json] {
        if let Json::List(items) = self { items } else { panic!("expected a list") }
    }

    fn text(&self) -> &str {
        if let Json::Text(text) = self { text } else { panic!("expected a string or a number") }
    }

    fn number(&self) -> f64 {
        self.text().parse().expect("a number")
    }
}

fn real(bytes: [u8; 8]) -> Real {
    f64::from_le_bytes(bytes) as Real
}

fn load(header: &Json, data: &[u8], key: &str) -> Array {
    let entry = header.get(key);
    let numbers = |key| entry.get(key).items().iter().map(|n| n.number() as usize);
    let offsets: Vec<usize> = numbers("data_offsets").collect();
    let bytes = &data[offsets[0]..offsets[1]];
    let data = match entry.get("dtype").text() {
        "BOOL" => bytes.iter().map(|x| *x as Real).collect(), // a mask
        "F64" => bytes.chunks(8).map(|x| real(x.try_into().unwrap())).collect(),
        dtype => panic!("{key}: expected F64 or BOOL, got {dtype}"),
    };
    Array { shape: numbers("shape").collect(), data }
}

fn main() {
    let path = std::env::args().nth(1).unwrap_or("vectors-1.0.safetensors".to_string());
    let file = std::fs::read(path).expect("a file of vectors");
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    assert!(length <= file.len() - 8, "the file is cut in its header");
    let (text, data) = file[8..].split_at(length);
    let header = Json::parse(text, &mut 0);
    let manifest = header.get("__metadata__").get("manifest").text();
    let manifest = Json::parse(manifest.as_bytes(), &mut 0);
    assert_eq!(manifest.get("format").text(), "mgt-np-vectors");
    assert!(manifest.get("version").text().starts_with("1."), "expected version 1.x");

    let functions = functions();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for case in manifest.get("cases").items() {
        let id = case.get("id").text();
        let function = functions.get(case.get("function").text());
        if function.is_none() || case.find("withdrawn").is_some() {
            skipped += 1;
            continue;
        }
        let mut inputs = Arrays::new();
        for name in case.get("in").items() {
            let array = load(&header, data, &format!("{id}/in.{}", name.text()));
            inputs.insert(name.text().to_string(), array);
        }
        let got = function.unwrap()(&inputs, case.get("options"));
        let (mut right, mut worst) = (true, 0.0f64);
        for name in case.get("out").items() {
            let out = load(&header, data, &format!("{id}/out.{}", name.text()));
            let y = &got[name.text()];
            let noise = case.get("noise").get(DTYPE).get(name.text()).number();
            right &= y.shape == out.shape && y.data.len() == out.data.len();
            for (y, out) in y.data.iter().zip(&out.data) {
                let error = (*y as f64 - *out as f64).abs();
                worst = worst.max(error / noise);
                right &= error <= 4.0 * noise; // and so NaN is wrong
            }
        }
        println!("{} {id}: {worst:.2} x noise", if right { "right" } else { "WRONG" });
        *(if right { &mut passed } else { &mut failed }) += 1;
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    std::process::exit((failed > 0 || passed == 0) as i32);
}
