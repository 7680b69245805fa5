//! The parts of TensorFlow's `event.proto`, `summary.proto` and `tensor.proto` that scalars are in. Field
//! numbers are the format's; other fields are passed over.

/// `tensorflow.Event`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub(crate) wall_time: f64,
    #[prost(int64, tag = "2")]
    pub(crate) step: i64,
    #[prost(message, optional, tag = "5")]
    pub(crate) summary: Option<Summary>,
}

/// `tensorflow.Summary`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub(crate) value: Vec<Value>,
}

/// `tensorflow.Summary.Value`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Value {
    #[prost(string, tag = "1")]
    pub(crate) tag: String,
    #[prost(float, optional, tag = "2")]
    pub(crate) simple_value: Option<f32>,
    #[prost(message, optional, tag = "8")]
    pub(crate) tensor: Option<Tensor>,
    #[prost(message, optional, tag = "9")]
    pub(crate) metadata: Option<Metadata>,
}

/// `tensorflow.SummaryMetadata`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Metadata {
    #[prost(message, optional, tag = "1")]
    pub(crate) plugin_data: Option<PluginData>,
}

/// `tensorflow.SummaryMetadata.PluginData`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PluginData {
    #[prost(string, tag = "1")]
    pub(crate) plugin_name: String,
}

/// `tensorflow.TensorProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Tensor {
    #[prost(int32, tag = "1")]
    pub(crate) dtype: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) shape: Option<Shape>,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) content: Vec<u8>,
    #[prost(float, repeated, tag = "5")]
    pub(crate) float_val: Vec<f32>,
    #[prost(double, repeated, tag = "6")]
    pub(crate) double_val: Vec<f64>,
    #[prost(int32, repeated, tag = "7")]
    pub(crate) int_val: Vec<i32>,
    #[prost(int64, repeated, tag = "10")]
    pub(crate) int64_val: Vec<i64>,
    /// Halves and bfloats, as their bits.
    #[prost(int32, repeated, tag = "13")]
    pub(crate) half_val: Vec<i32>,
}

/// `tensorflow.TensorShapeProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Shape {
    #[prost(message, repeated, tag = "2")]
    pub(crate) dim: Vec<Dim>,
}

/// `tensorflow.TensorShapeProto.Dim`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Dim {
    #[prost(int64, tag = "1")]
    pub(crate) size: i64,
}

impl Tensor {
    /// The number, of a tensor that holds one.
    pub(crate) fn scalar(&self) -> Option<f64> {
        if self.shape.iter().flat_map(|s| &s.dim).any(|d| d.size != 1) {
            return None;
        }
        let content = self.content.as_slice();
        match self.dtype {
            // DT_FLOAT, DT_DOUBLE, DT_INT32, DT_INT64, DT_BFLOAT16, DT_HALF
            1 => content
                .try_into()
                .ok()
                .map(f32::from_le_bytes)
                .or(self.float_val.first().copied())
                .map(f64::from),
            2 => content.try_into().ok().map(f64::from_le_bytes).or(self.double_val.first().copied()),
            3 => content
                .try_into()
                .ok()
                .map(i32::from_le_bytes)
                .or(self.int_val.first().copied())
                .map(f64::from),
            9 => content
                .try_into()
                .ok()
                .map(i64::from_le_bytes)
                .or(self.int64_val.first().copied())
                .map(|v| v as f64),
            14 => self.bits().map(|bits| f64::from(f32::from_bits(u32::from(bits) << 16))),
            19 => self.bits().map(half),
            _ => None,
        }
    }

    fn bits(&self) -> Option<u16> {
        let content = self.content.as_slice().try_into().ok().map(u16::from_le_bytes);
        content.or_else(|| self.half_val.first().and_then(|v| u16::try_from(*v).ok()))
    }
}

/// A half-precision number (IEEE 754) from its bits.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    match exponent {
        0 => sign * fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => sign * f64::INFINITY,
        31 => f64::NAN,
        _ => sign * (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves() {
        for (bits, value) in
            [(0x3c00, 1.0), (0xc000, -2.0), (0x3555, 0.333_251_953_125), (1, 2f64.powi(-24)), (0, 0.0)]
        {
            assert!((half(bits) - value).abs() < 1e-12, "{bits:x}");
        }
        assert!(half(0x7c00).is_infinite() && half(0x7e00).is_nan());
    }

    #[test]
    fn only_one_number_is_a_scalar() {
        let shape = |size| Some(Shape { dim: vec![Dim { size }] });
        let of = |content: &[u8], shape| Tensor {
            dtype: 1,
            content: content.to_vec(),
            shape,
            ..Tensor::default()
        };
        let one = 0.5f32.to_le_bytes();
        assert_eq!(of(&one, None).scalar(), Some(0.5));
        assert_eq!(of(&one, shape(1)).scalar(), Some(0.5));
        assert_eq!(of(&[one, one].concat(), shape(2)).scalar(), None);
        assert_eq!(of(b"text", shape(0)).scalar(), None);
        assert_eq!(Tensor { dtype: 7, ..Tensor::default() }.scalar(), None, "text is no number");
    }
}
