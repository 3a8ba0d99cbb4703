package alert

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf16"
)

// Bounds of a Slack message, in characters (https://docs.slack.dev/reference/block-kit/blocks).
const (
	maxSlackHeader  = 150
	maxSlackSection = 3000
)

// SlackOptions are the settings of a Slack channel. All but Transport are required.
type SlackOptions struct {
	Name      string
	URL       string // of the incoming webhook; a secret, so https unless it is on this machine
	Now       func() time.Time
	Transport http.RoundTripper // nil: a direct connection, certificates of the system's authorities
}

// Slack is a [Channel] that posts to an incoming webhook of Slack or of what takes the same (Mattermost, Rocket.Chat, Discord
// with /slack).
type Slack struct {
	name string
	post *poster
}

// NewSlack returns a Slack channel, or an error that names the setting which is wrong.
func NewSlack(o SlackOptions) (*Slack, error) {
	if err := checkName(o.Name); err != nil {
		return nil, err
	}
	post, err := newPoster(o.URL, false, o.Transport, o.Now)
	if err != nil {
		return nil, fmt.Errorf("alert channel %q: %w", o.Name, err)
	}
	return &Slack{name: o.Name, post: post}, nil
}

// Name implements [Channel].
func (s *Slack) Name() string { return s.name }

// slackMessage is what an incoming webhook takes.
type slackMessage struct {
	Text   string       `json:"text"` // for notifications, and for those who know no blocks
	Blocks []slackBlock `json:"blocks"`
	// Addresses in the text are strangers': nobody is to fetch them for a preview.
	UnfurlLinks bool `json:"unfurl_links"`
	UnfurlMedia bool `json:"unfurl_media"`
}

type slackBlock struct {
	Type string    `json:"type"`
	Text slackText `json:"text"`
}

type slackText struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// Send implements [Channel].
func (s *Slack) Send(ctx context.Context, m *Message) error {
	subject, text := m.Subject(), m.PlainText()
	body, err := json.Marshal(slackMessage{
		Text: unmention(slackEscape(line(subject, maxTitle+64)+"\n"+paragraph(text, maxSlackSection), 2*maxSlackSection)),
		Blocks: []slackBlock{
			// Plain text, since in mrkdwn a stranger's path could mark up the rest.
			{"header", slackText{"plain_text", slackEscape(subject, maxSlackHeader)}},
			{"section", slackText{"plain_text", slackEscape(text, maxSlackSection)}},
		},
	})
	if err != nil {
		return permanent("write the message: %w", err)
	}
	return s.post.post(ctx, body, http.Header{})
}

// slackEscape writes the three characters that mean something to Slack as their entities, within limit
// characters; see https://docs.slack.dev/messaging/formatting-message-text/#escaping.
func slackEscape(text string, limit int) string {
	var b strings.Builder
	n := 0
	for _, r := range text {
		s, size := string(r), utf16.RuneLen(r) // the longer way to count is the safe one
		switch r {
		case '&':
			s = "&amp;"
		case '<':
			s = "&lt;"
		case '>':
			s = "&gt;"
		}
		if r < 0x80 {
			size = len(s)
		}
		if n+size > limit-1 {
			b.WriteRune('…')
			break
		}
		n += size
		b.WriteString(s)
	}
	return b.String()
}

// unmention keeps what others than Slack make of a text from happening: @all calls everybody, and ![](…) fetches an image.
func unmention(text string) string {
	return strings.NewReplacer("@", "@\u200b", "](", "]\u200b(", "`", "'").Replace(text)
}
