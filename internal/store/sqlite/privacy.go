package sqlite

import "github.com/quickthorn/quickthorn/internal/privacy"

// Privacy says what personal data the archive keeps.
type Privacy = privacy.Settings

// AddressMode says in what form client addresses are kept.
type AddressMode = privacy.AddressMode

// The forms of addresses, see package privacy.
const (
	Full      = privacy.Full
	Truncated = privacy.Truncated
	Hashed    = privacy.Hashed
)

// PrivacyKeyFile is the name, in the data directory, of the file with the key that addresses are hashed with.
const PrivacyKeyFile = privacy.KeyFile

// ParseAddressMode returns the mode with that name: "full", "truncated" or "hashed".
func ParseAddressMode(s string) (AddressMode, error) { return privacy.ParseAddressMode(s) }
