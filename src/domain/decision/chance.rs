//! Randomness that everybody can repeat: ChaCha8 (RFC 8439 with 8 rounds) under
//! a key that is given, and the distributions drawn from it.
//!
//! Bit-identical on every body: the generator is specified, functions beyond
//! `+ − × ÷ √` (which IEEE 754 fixes) come from the `libm` crate and never from
//! the platform, and every sum has its order.

use chacha20::ChaCha8;
use chacha20::cipher::{KeyIvInit, StreamCipher};

/// Keystream taken at once.
const BUFFER_BYTES: usize = 512;

/// What a stream of draws is for. Streams of one seed have nothing in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Weights of criteria.
    Weights = 1,
    /// Inputs that were given as ranges.
    Estimates = 2,
}

pub struct Chance {
    stream: ChaCha8,
    buffer: [u8; BUFFER_BYTES],
    /// The next byte of the buffer.
    at: usize,
    /// Normal numbers come in pairs.
    spare: Option<f64>,
}

impl Chance {
    pub fn new(seed: &[u8; 32], purpose: Purpose) -> Self {
        let mut nonce = [0_u8; 12];
        if let Some(first) = nonce.first_mut() {
            *first = purpose as u8;
        }
        let stream = ChaCha8::new(seed.into(), &nonce.into());
        Self { stream, buffer: [0; BUFFER_BYTES], at: BUFFER_BYTES, spare: None }
    }

    fn next_u64(&mut self) -> u64 {
        if self.at >= BUFFER_BYTES {
            self.buffer = [0; BUFFER_BYTES];
            self.stream.apply_keystream(&mut self.buffer);
            self.at = 0;
        }
        let mut word = [0_u8; 8];
        for (to, from) in word.iter_mut().zip(self.buffer.iter().skip(self.at)) {
            *to = *from;
        }
        self.at += word.len();
        u64::from_le_bytes(word)
    }

    /// From 0 to below 1, in steps of 2^-53.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / 9_007_199_254_740_992.0
    }

    /// Standard normal: Marsaglia's polar method (1964).
    fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let x = 2.0 * self.uniform() - 1.0;
            let y = 2.0 * self.uniform() - 1.0;
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                let scale = (-2.0 * libm::log(square) / square).sqrt();
                self.spare = Some(y * scale);
                return x * scale;
            }
        }
    }

    /// Gamma of this shape (above 0) and scale 1: Marsaglia and Tsang (2000),
    /// "A simple method for generating gamma variables", with their step for
    /// shapes below 1.
    fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let power = libm::pow(1.0 - self.uniform(), 1.0 / shape);
            return self.gamma(shape + 1.0) * power;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = 1.0 + c * x;
            if v <= 0.0 {
                continue;
            }
            let v = v * v * v;
            // Above 0, so that its logarithm is finite.
            let u = 1.0 - self.uniform();
            let square = x * x;
            if u < 1.0 - 0.0331 * square * square
                || libm::log(u) < 0.5 * square + d * (1.0 - v + libm::log(v))
            {
                return d * v;
            }
        }
    }

    /// Weights that add up to 1, from the Dirichlet distribution whose mean is
    /// `centre` and whose parameters add up to `concentration`: each has a
    /// standard deviation of `√(w(1−w)/(concentration + 1))`. A weight of 0
    /// stays 0.
    pub fn dirichlet(&mut self, centre: &[f64], concentration: f64, drawn: &mut Vec<f64>) {
        drawn.clear();
        let mut sum = 0.0;
        for weight in centre {
            let gamma = if *weight > 0.0 { self.gamma(concentration * weight) } else { 0.0 };
            sum += gamma;
            drawn.push(gamma);
        }
        if sum > 0.0 {
            drawn.iter_mut().for_each(|weight| *weight /= sum);
        } else {
            // All of them too small for a float.
            drawn.clear();
            drawn.extend_from_slice(centre);
        }
    }

    /// Triangular with these ends and this mode, by its inverse distribution
    /// function.
    pub fn triangular(&mut self, low: f64, mode: f64, high: f64) -> f64 {
        let u = self.uniform();
        let width = high - low;
        if width <= 0.0 {
            return mode;
        }
        let rise = (mode - low) / width;
        let value = if u < rise {
            low + (u * width * (mode - low)).sqrt()
        } else {
            high - ((1.0 - u) * width * (high - mode)).sqrt()
        };
        value.clamp(low, high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chance() -> Chance {
        Chance::new(&[7; 32], Purpose::Weights)
    }

    fn moments(mut draw: impl FnMut() -> f64, n: u32) -> (f64, f64) {
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..n {
            let x = draw();
            sum += x;
            squares += x * x;
        }
        let mean = sum / f64::from(n);
        (mean, squares / f64::from(n) - mean * mean)
    }

    #[track_caller]
    fn assert_near((mean, variance): (f64, f64), (of_mean, of_variance): (f64, f64)) {
        assert!((mean - of_mean).abs() < 0.02 * of_mean.abs().max(1.0), "mean {mean}");
        assert!((variance / of_variance - 1.0).abs() < 0.05, "variance {variance}");
    }

    /// The first words of ChaCha8 with a key of zeros and a nonce of zeros
    /// (draft-strombergson-chacha-test-vectors-01, TC1, 8 rounds) as our
    /// buffer reads them; the purpose is the only difference.
    #[test]
    fn it_is_chacha_with_eight_rounds() {
        let mut stream = ChaCha8::new(&[0; 32].into(), &[0; 12].into());
        let mut bytes = [0_u8; 8];
        stream.apply_keystream(&mut bytes);
        assert_eq!(bytes, [0x3e, 0x00, 0xef, 0x2f, 0x89, 0x5f, 0x40, 0xd6]);
        let mut one = Chance::new(&[0; 32], Purpose::Weights);
        let mut two = Chance::new(&[0; 32], Purpose::Estimates);
        let mut again = Chance::new(&[0; 32], Purpose::Weights);
        let firsts: Vec<_> = (0..200).map(|_| one.next_u64()).collect();
        assert!((0..200).all(|at| again.next_u64() == firsts[at]));
        assert!(firsts.iter().all(|word| two.next_u64() != *word));
    }

    #[test]
    fn distributions_have_their_moments() {
        let mut c = chance();
        assert_near(moments(|| c.uniform(), 100_000), (0.5, 1.0 / 12.0));
        assert_near(moments(|| c.normal(), 100_000), (0.0, 1.0));
        for shape in [0.05, 0.5, 1.0, 2.5, 40.0] {
            assert_near(moments(|| c.gamma(shape), 200_000), (shape, shape));
        }
        let (low, mode, high) = (2.0, 3.0, 10.0);
        let mean = (low + mode + high) / 3.0;
        let variance =
            (low * low + mode * mode + high * high - low * mode - low * high - mode * high) / 18.0;
        assert_near(moments(|| c.triangular(low, mode, high), 100_000), (mean, variance));
        assert_eq!(c.triangular(5.0, 5.0, 5.0), 5.0);
    }

    #[test]
    fn weights_are_drawn_around_their_centre() {
        let mut c = chance();
        let centre = [0.5, 0.0, 0.3, 0.2];
        let mut drawn = Vec::new();
        let mut sums = [0.0; 4];
        for _ in 0..20_000 {
            c.dirichlet(&centre, 50.0, &mut drawn);
            assert!((drawn.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            assert_eq!(drawn[1], 0.0);
            sums.iter_mut().zip(&drawn).for_each(|(sum, weight)| *sum += weight);
        }
        for (sum, weight) in sums.iter().zip(centre) {
            assert!((sum / 20_000.0 - weight).abs() < 0.002);
        }
        let deviation = moments(
            || {
                c.dirichlet(&centre, 50.0, &mut drawn);
                drawn[0]
            },
            50_000,
        );
        assert_near(deviation, (0.5, 0.5 * 0.5 / 51.0));
    }
}
