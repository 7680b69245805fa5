//! TensorBoard event files: records as TensorFlow's `record_writer.cc` frames them, each an `Event`. A record
//! is its length (8 bytes, little endian), a checksum of that, its bytes, and a checksum of them; checksums are
//! CRC-32C, rotated by 15 bits and moved by a constant.

use crc_fast::CrcAlgorithm::Crc32Iscsi;
use prost::Message;
use trainyard_api::Time;

use crate::{
    Read, is_time, point,
    proto::{Event, Value},
};

/// Bytes before and behind the bytes of a record.
const HEAD: usize = 12;
const TAIL: usize = 4;
/// Records up to this size are looked into: scalars are small. Larger ones, images and graphs, are passed
/// over.
const MOST_RECORD: u64 = 1 << 20;
const MASK: u32 = 0xa282_ead8;

/// Reads a file from any record on.
#[derive(Clone, Debug, Default)]
pub struct TensorBoard {
    /// Bytes of a large record that are still to be passed over.
    skipping: u64,
}

impl TensorBoard {
    /// Reads whole records, as points of `group`. `now` is the time of points that do not say theirs.
    pub fn read(&mut self, bytes: &[u8], group: &str, now: Time) -> Read {
        let mut read = Read::default();
        loop {
            let passed = self.skipping.min((bytes.len() - read.used) as u64);
            self.skipping -= passed;
            read.used += passed as usize;
            let rest = &bytes[read.used..];
            let Some((head, behind)) = rest.split_at_checked(HEAD) else { return read };
            let length = u64::from_le_bytes(head[..8].try_into().unwrap_or_default());
            if masked(&head[..8]).to_le_bytes() != head[8..] {
                read.broken = Some("the length of a record is not what its checksum says");
                return read;
            }
            if length > MOST_RECORD {
                read.used += HEAD;
                self.skipping = length.saturating_add(TAIL as u64);
                continue;
            }
            let length = length as usize;
            let Some((record, _)) = behind.split_at_checked(length + TAIL) else { return read };
            let (data, checksum) = record.split_at(length);
            if masked(data).to_le_bytes() != checksum {
                read.broken = Some("a record is not what its checksum says");
                return read;
            }
            read.used += HEAD + length + TAIL;
            let event = Event::decode(data).unwrap_or_default();
            let ms = (event.wall_time * 1000.0) as i64;
            let at = if is_time(ms) { Time(ms) } else { now };
            let values = event.summary.unwrap_or_default().value;
            let scalars = values.into_iter().filter_map(|v| Some((v.tag.clone(), scalar(&v)?)));
            if let Some(metric) = point(at, event.step, group, scalars) {
                read.points.push((metric, read.used));
            }
        }
    }
}

fn scalar(value: &Value) -> Option<f64> {
    if let Some(simple) = value.simple_value {
        return Some(f64::from(simple));
    }
    let plugin =
        value.metadata.as_ref().and_then(|m| m.plugin_data.as_ref()).map_or("", |p| p.plugin_name.as_str());
    // Others keep numbers of their own in tensors, which are no curve.
    if plugin.is_empty() || plugin == "scalars" { value.tensor.as_ref()?.scalar() } else { None }
}

fn masked(bytes: &[u8]) -> u32 {
    let crc = crc_fast::checksum(Crc32Iscsi, bytes) as u32;
    crc.rotate_right(15).wrapping_add(MASK)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::{Metadata, PluginData, Summary, Tensor};

    fn record(data: &[u8]) -> Vec<u8> {
        let length = (data.len() as u64).to_le_bytes();
        [&length[..], &masked(&length).to_le_bytes(), data, &masked(data).to_le_bytes()].concat()
    }

    fn event(step: i64, value: Vec<Value>) -> Vec<u8> {
        record(&Event { wall_time: 1.5, step, summary: Some(Summary { value }) }.encode_to_vec())
    }

    fn simple(tag: &str, value: f32) -> Value {
        Value { tag: tag.to_owned(), simple_value: Some(value), ..Value::default() }
    }

    fn tensor(plugin: &str, value: f32) -> Value {
        let plugin_data = Some(PluginData { plugin_name: plugin.to_owned() });
        Value {
            tag: "loss".to_owned(),
            tensor: Some(Tensor { dtype: 1, float_val: vec![value], ..Tensor::default() }),
            metadata: Some(Metadata { plugin_data }),
            ..Value::default()
        }
    }

    #[test]
    fn scalars_of_both_generations_are_points() {
        let file = [
            record(&Event { wall_time: 1.0, ..Event::default() }.encode_to_vec()),
            event(3, vec![simple("accuracy", 0.5), simple("loss", f32::NAN)]),
            event(4, vec![tensor("scalars", 0.25)]),
            event(5, vec![tensor("hparams", 1.0)]),
        ]
        .concat();
        let read = TensorBoard::default().read(&file, "train", Time(9));
        assert_eq!((read.used, read.broken), (file.len(), None));
        let points: Vec<_> = read
            .points
            .iter()
            .map(|(m, _)| (m.iteration, m.values[0].name.as_str(), m.values[0].value))
            .collect();
        assert_eq!(points, [(3, "accuracy", 0.5), (4, "loss", 0.25)]);
        assert_eq!(read.points[0].0.values.len(), 1, "not a number is no value");
        assert_eq!(
            (read.points[0].0.timestamp.as_str(), read.points[0].0.phase.as_str()),
            ("1970-01-01T00:00:01.500Z", "train")
        );
    }

    #[test]
    fn large_records_are_passed_over_and_broken_ones_end_it() {
        let large = record(&vec![0; MOST_RECORD as usize + 1]);
        let small = event(1, vec![simple("a", 1.0)]);
        let file = [large.as_slice(), &small].concat();
        let mut reader = TensorBoard::default();
        let first = reader.read(&file[..1000], "g", Time(0));
        assert_eq!(first.used, 1000);
        let second = reader.read(&file[1000..], "g", Time(0));
        assert_eq!((second.points.len(), second.used), (1, file.len() - 1000));
        let mut broken = [small.as_slice(), &small].concat();
        let at = small.len() + 14;
        broken[at] ^= 1;
        let read = TensorBoard::default().read(&broken, "g", Time(0));
        assert_eq!((read.points.len(), read.used), (1, small.len()));
        assert!(read.broken.is_some());
    }

    proptest! {
        #[test]
        fn any_pieces_are_read_alike_and_any_bytes_at_all(
            steps in prop::collection::vec(any::<i64>(), 0..8),
            at in any::<prop::sample::Index>(),
            noise in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let file: Vec<u8> = steps.iter().flat_map(|s| event(*s, vec![simple("a", 1.0)])).collect();
            let at = at.index(file.len() + 1);
            let mut reader = TensorBoard::default();
            let first = reader.read(&file[..at], "g", Time(0));
            let second = reader.read(&file[first.used..], "g", Time(0));
            prop_assert_eq!(first.points.len() + second.points.len(), steps.len());
            prop_assert_eq!(first.used + second.used, file.len());
            let _ = TensorBoard::default().read(&[file, noise].concat(), "g", Time(0));
        }
    }
}
