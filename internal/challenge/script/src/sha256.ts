// SHA-256 (FIPS 180-4) in plain JavaScript, arranged so that many blocks that differ in
// one word can be hashed without allocating.
//
// Why not WebAssembly: a Content-Security-Policy without 'wasm-unsafe-eval' forbids it,
// and the challenge page must work under the strictest policy that a site may set.

/** The initial hash value (FIPS 180-4, section 5.3.3). Not to be written to. */
export const initial = new Int32Array([
  0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
]);

const constants = new Int32Array([
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
]);

/**
 * Runs rounds from (included) to to (excluded) over the message schedule w (64 words, of
 * which the first 16 are the block; the others are filled in as they are reached) and writes the working
 * variables to out. The caller adds the chaining value. Splitting the rounds lets a caller keep what the unchanging
 * first words of its blocks come to.
 */
export function rounds(w: Int32Array, from: number, to: number, start: Int32Array, out: Int32Array): void {
  let a = start[0], b = start[1], c = start[2], d = start[3];
  let e = start[4], f = start[5], g = start[6], h = start[7];
  for (let t = from; t < to; t++) {
    if (t > 15) {
      const x = w[t - 15], y = w[t - 2];
      w[t] = (((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3)) + w[t - 16] +
        (((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10)) + w[t - 7];
    }
    const one = (h + (((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7))) +
      (g ^ (e & (f ^ g))) + constants[t] + w[t]) | 0;
    const two = ((((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10))) +
      ((a & b) | (c & (a | b)))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + one) | 0;
    d = c;
    c = b;
    b = a;
    a = (one + two) | 0;
  }
  out[0] = a;
  out[1] = b;
  out[2] = c;
  out[3] = d;
  out[4] = e;
  out[5] = f;
  out[6] = g;
  out[7] = h;
}

/** The SHA-256 of a short message, as eight words. */
export function digest(message: Uint8Array): Int32Array {
  const length = message.length;
  const padded = new DataView(new ArrayBuffer((length + 72) & ~63));
  for (let i = 0; i < length; i++) {
    padded.setUint8(i, message[i]);
  }
  padded.setUint8(length, 0x80);
  padded.setUint32(padded.byteLength - 4, length * 8); // the upper 32 bits of the length stay zero
  const w = new Int32Array(64), state = new Int32Array(8), chain = new Int32Array(initial);
  for (let at = 0; at < padded.byteLength; at += 64) {
    for (let i = 0; i < 16; i++) {
      w[i] = padded.getInt32(at + 4 * i);
    }
    rounds(w, 0, 64, chain, state);
    for (let i = 0; i < 8; i++) {
      chain[i] += state[i];
    }
  }
  return chain;
}

/** The seed of a ticket's puzzles: the SHA-256 of its text, which is ASCII. */
export function seedOf(ticket: string): Int32Array {
  const bytes = new Uint8Array(ticket.length);
  for (let i = 0; i < ticket.length; i++) {
    bytes[i] = ticket.charCodeAt(i);
  }
  return digest(bytes);
}
