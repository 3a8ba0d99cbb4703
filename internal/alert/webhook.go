package alert

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of a webhook's request.
const (
	// SignatureHeader proves who sent the body, and when: "t=UNIX,v1=HEX", see [Verify].
	SignatureHeader = "Quickthorn-Signature"
	// IDHeader holds the message's id, the same at each attempt: who has seen it need not act again.
	IDHeader = "Idempotency-Key"
)

// minSecret is the shortest secret that is taken, in bytes.
const minSecret = 16

// WebhookOptions are the settings of a webhook. All but Transport are required.
type WebhookOptions struct {
	Name      string
	URL       string // http or https; a secret
	Secret    []byte // signs the requests, at least 16 bytes
	Now       func() time.Time
	Transport http.RoundTripper // nil: a direct connection, certificates of the system's authorities
}

// Webhook is a [Channel] that posts each [Message] as JSON, signed.
type Webhook struct {
	name   string
	secret []byte
	post   *poster
}

// NewWebhook returns a webhook, or an error that names the setting which is wrong.
func NewWebhook(o WebhookOptions) (*Webhook, error) {
	if err := checkName(o.Name); err != nil {
		return nil, err
	}
	if len(o.Secret) < minSecret {
		return nil, fmt.Errorf("alert channel %q: the secret has %d bytes and needs %d", o.Name, len(o.Secret), minSecret)
	}
	post, err := newPoster(o.URL, true, o.Transport, o.Now)
	if err != nil {
		return nil, fmt.Errorf("alert channel %q: %w", o.Name, err)
	}
	post.secrets = append(post.secrets, string(o.Secret))
	return &Webhook{name: o.Name, secret: o.Secret, post: post}, nil
}

// Name implements [Channel].
func (w *Webhook) Name() string { return w.name }

// Send implements [Channel].
func (w *Webhook) Send(ctx context.Context, m *Message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return permanent("write the message: %w", err)
	}
	h := http.Header{}
	h.Set(IDHeader, m.ID)
	h.Set(SignatureHeader, Sign(w.secret, body, w.post.now()))
	return w.post.post(ctx, body, h)
}

// Sign returns the value of [SignatureHeader] for a body: the time in seconds since 1970, and the HMAC-SHA-256
// of that number, a dot and the body.
func Sign(secret, body []byte, at time.Time) string {
	t := strconv.FormatInt(at.Unix(), 10)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac(secret, t, body))
}

func mac(secret []byte, t string, body []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(t + "."))
	h.Write(body)
	return h.Sum(nil)
}

// ErrSignature is wrapped by the errors of [Verify].
var ErrSignature = errors.New("the signature does not hold")

// Verify is for those who receive a webhook: it returns nil when the header's value was made with the secret for this body, as
// it came, at a time that differs from now by no more than tolerance (5 minutes will do). Within
// that time a recorded request can be sent again: its id says so.
func Verify(secret []byte, header string, body []byte, now time.Time, tolerance time.Duration) error {
	if len(secret) < minSecret {
		return fmt.Errorf("%w: the secret is too short", ErrSignature)
	}
	if len(header) > 512 {
		return fmt.Errorf("%w: the header is too long", ErrSignature)
	}
	var t string
	var signatures [][]byte // several while a secret is being replaced
	for part := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "t":
			if t != "" {
				return fmt.Errorf("%w: the header has two times", ErrSignature)
			}
			t = value
		case "v1":
			if s, err := hex.DecodeString(value); err == nil {
				signatures = append(signatures, s)
			}
		}
	}
	seconds, err := strconv.ParseInt(t, 10, 64)
	if err != nil || len(signatures) == 0 {
		return fmt.Errorf("%w: the header is not of the form t=UNIX,v1=HEX", ErrSignature)
	}
	want := mac(secret, t, body)
	held := false
	for _, s := range signatures {
		held = hmac.Equal(s, want) || held
	}
	if !held {
		return ErrSignature
	}
	// Not by Sub, which stops at 292 years.
	if at := time.Unix(seconds, 0); at.Before(now.Add(-tolerance)) || at.After(now.Add(tolerance)) {
		return fmt.Errorf("%w: it is from another time", ErrSignature)
	}
	return nil
}
