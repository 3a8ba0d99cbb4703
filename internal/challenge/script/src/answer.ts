// The answer to a challenge, as the server reads it.

/**
 * Writes the solved puzzles in base64url without padding: ascending, each as its number
 * in a byte and its payload. Puzzles without a payload are left out.
 */
export function encodeAnswer(payloads: (Uint8Array | undefined)[]): string {
  let bytes = "";
  payloads.forEach((payload, puzzle) => {
    if (payload) {
      bytes += String.fromCharCode(puzzle);
      payload.forEach((byte) => {
        bytes += String.fromCharCode(byte);
      });
    }
  });
  return btoa(bytes).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}
