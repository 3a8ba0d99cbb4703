package alert

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"html/template"
	"net"
	netmail "net/mail"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"
)

// Encryption says how a connection to a mail server is protected.
type Encryption string

// The kinds of encryption.
const (
	EncryptionSTARTTLS      Encryption = "starttls"      // by STARTTLS, or not at all; port 587
	EncryptionOpportunistic Encryption = "opportunistic" // by STARTTLS where the server offers it; whoever is in between can prevent it
	EncryptionTLS           Encryption = "tls"           // from the first byte; port 465
	EncryptionNone          Encryption = "none"          // for a server on this machine or network; port 25
)

// Bounds of one delivery by e-mail.
const (
	maxRecipients = 50
	maxSMTPAnswer = 256 << 10 // bytes read from the server, its certificates included
)

// EmailOptions are the settings of an e-mail channel. Name, Host, From and To are required.
type EmailOptions struct {
	Name       string
	Host       string      // of the mail server
	Port       int         // 0: what is usual for Encryption
	Encryption Encryption  // "": EncryptionSTARTTLS
	TLS        *tls.Config // for private authorities; nil: the system's, TLS 1.2 at least. ServerName is Host unless it is set

	Username, Password string // "": without authentication
	// ClearPassword allows to send the password without encryption. It is always allowed to a server on this machine.
	ClearPassword bool

	From   string   // such as "quickthorn <alerts@example.com>"
	To     []string // 1 to 50
	Prefix string   // begins each subject; "": "[quickthorn]"
	Hello  string   // what the client calls itself to the server; "": the machine's name
}

// Email is a [Channel] that sends by SMTP.
type Email struct {
	o    EmailOptions
	from *netmail.Address
	to   []*netmail.Address
	html *template.Template
}

// NewEmail returns an e-mail channel, or an error that names the setting which is wrong.
func NewEmail(o EmailOptions) (*Email, error) {
	if err := checkName(o.Name); err != nil {
		return nil, err
	}
	wrong := func(format string, args ...any) (*Email, error) {
		return nil, fmt.Errorf("alert channel %q: "+format, append([]any{o.Name}, args...)...)
	}
	if o.Host == "" || line(o.Host, maxSite) != o.Host {
		return wrong("the mail server's host is missing or wrong")
	}
	port := 0
	switch o.Encryption {
	case "":
		o.Encryption, port = EncryptionSTARTTLS, 587
	case EncryptionSTARTTLS:
		port = 587
	case EncryptionTLS:
		port = 465
	case EncryptionOpportunistic, EncryptionNone:
		port = 25
	default:
		return wrong("encryption %q is not one of starttls, opportunistic, tls, none", o.Encryption)
	}
	if o.Port == 0 {
		o.Port = port
	}
	if o.Port < 1 || o.Port > 65535 {
		return wrong("port %d is not in 1..65535", o.Port)
	}
	if (o.Username == "") != (o.Password == "") {
		return wrong("a user name needs a password, and a password a user name")
	}
	if o.TLS == nil {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	o.TLS = o.TLS.Clone()
	if o.TLS.ServerName == "" {
		o.TLS.ServerName = o.Host
	}
	if o.Prefix == "" {
		o.Prefix = "[quickthorn]"
	}
	o.Prefix = line(o.Prefix, maxName)
	e := &Email{o: o}
	var err error
	if e.from, err = netmail.ParseAddress(o.From); err != nil {
		return wrong("sender %q: %w", o.From, err)
	}
	if len(o.To) == 0 || len(o.To) > maxRecipients {
		return wrong("there are %d recipients; 1 to %d can be", len(o.To), maxRecipients)
	}
	for _, to := range o.To {
		a, err := netmail.ParseAddress(to)
		if err != nil {
			return wrong("recipient %q: %w", to, err)
		}
		if !slices.ContainsFunc(e.to, func(have *netmail.Address) bool { return have.Address == a.Address }) {
			e.to = append(e.to, a)
		}
	}
	if e.html, err = template.New("alert").Parse(emailHTML); err != nil {
		return wrong("the page: %w", err)
	}
	return e, nil
}

// Name implements [Channel].
func (e *Email) Name() string { return e.o.Name }

// Send implements [Channel]. A recipient whom the server refuses does not keep the message from the others; the
// error then names who was refused.
func (e *Email) Send(ctx context.Context, m *Message) error {
	content, err := e.compose(m)
	if err != nil {
		return permanent("write the message: %w", err)
	}
	if err := e.deliver(ctx, m, content); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		told := redacted(err, []string{e.o.Password})
		var se *SendError
		if errors.As(err, &se) {
			return &SendError{Err: told, Permanent: se.Permanent}
		}
		// The server's word: 5 for good, 4 for now (RFC 5321, section 4.2.1).
		var answer *textproto.Error
		return &SendError{Err: told, Permanent: errors.As(err, &answer) && answer.Code >= 500}
	}
	return nil
}

// compose writes the message with its headers.
func (e *Email) compose(m *Message) ([]byte, error) {
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	msg.FromMailAddress(e.from)
	msg.ToMailAddress(e.to...)
	msg.Subject(e.subject(m))
	msg.SetDateWithValue(m.At.UTC())
	_, domain, _ := strings.Cut(e.from.Address, "@")
	msg.SetMessageIDWithValue(m.ID + "@" + domain)
	// No automatic answer, such as a notice of absence, is wanted (RFC 3834).
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	if m.Severity == Critical {
		msg.SetImportance(mail.ImportanceHigh)
	}
	msg.SetBodyString(mail.TypeTextPlain, m.PlainText()+"\n")
	var page bytes.Buffer
	if err := e.html.Execute(&page, m); err != nil {
		return nil, err
	}
	msg.AddAlternativeString(mail.TypeTextHTML, page.String())
	var b bytes.Buffer
	if _, err := msg.WriteTo(&b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func (e *Email) subject(m *Message) string {
	// Readers of mail decode =?…?= in a subject, and a stranger's path might hold that.
	return strings.ReplaceAll(e.o.Prefix+" "+m.Subject(), "=?", "= ?")
}

// deliver speaks with the server.
func (e *Email) deliver(ctx context.Context, m *Message, content []byte) error {
	address := net.JoinHostPort(e.o.Host, strconv.Itoa(e.o.Port))
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("reach the mail server: %w", err)
	}
	// go-mail leaves the connection open when the greeting fails, and does not look at ctx once it is made. What
	// becomes of closing does not matter: the server's word on the message is known by then.
	defer raw.Close()
	defer context.AfterFunc(ctx, func() { raw.Close() })()

	var conn net.Conn = &shortConn{Conn: raw, left: maxSMTPAnswer}
	if e.o.Encryption == EncryptionTLS {
		encrypted := tls.Client(conn, e.o.TLS)
		if err := encrypted.HandshakeContext(ctx); err != nil {
			return fmt.Errorf("encrypt the connection to the mail server %s: %w", address, err)
		}
		conn = encrypted
	}
	options := []mail.Option{
		mail.WithPort(e.o.Port), mail.WithTLSConfig(e.o.TLS), mail.WithTLSPolicy(mail.NoTLS),
		mail.WithDialContextFunc(func(context.Context, string, string) (net.Conn, error) { return conn, nil }),
	}
	switch e.o.Encryption {
	case EncryptionSTARTTLS:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	case EncryptionOpportunistic:
		options = append(options, mail.WithTLSPolicy(mail.TLSOpportunistic))
	}
	if e.o.Hello != "" {
		options = append(options, mail.WithHELO(e.o.Hello))
	}
	client, err := mail.NewClient(e.o.Host, options...)
	if err != nil {
		return permanent("prepare to speak with the mail server: %w", err)
	}
	c, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return fmt.Errorf("speak with the mail server %s: %w", address, err)
	}
	if e.o.Username != "" {
		if err := e.authenticate(c, raw); err != nil {
			return err
		}
	}
	return e.transmit(c, m, content)
}

// authenticate proves who we are. A password crosses a network in clear only when that is allowed.
func (e *Email) authenticate(c *smtp.Client, conn net.Conn) error {
	if _, err := c.GetTLSConnectionState(); err != nil && !e.o.ClearPassword && !local(conn) {
		return permanent("the connection to the mail server is not encrypted: the password is not sent")
	}
	offered, mechanisms := c.Extension("AUTH")
	if !offered {
		return permanent("the mail server wants no password here: leave out the user name, or use another port or encryption")
	}
	var auth smtp.Auth
	switch list := strings.Fields(strings.ToUpper(mechanisms)); {
	case slices.Contains(list, "SCRAM-SHA-256"):
		auth = smtp.ScramSHA256Auth(e.o.Username, e.o.Password)
	case slices.Contains(list, "PLAIN"):
		auth = smtp.PlainAuth("", e.o.Username, e.o.Password, e.o.Host, true)
	case slices.Contains(list, "LOGIN"):
		auth = smtp.LoginAuth(e.o.Username, e.o.Password, e.o.Host, true)
	case slices.Contains(list, "CRAM-MD5"):
		auth = smtp.CRAMMD5Auth(e.o.Username, e.o.Password)
	default:
		return permanent("the mail server takes no password by SCRAM-SHA-256, PLAIN, LOGIN or CRAM-MD5, but by %q", mechanisms)
	}
	if err := c.Auth(auth); err != nil {
		return fmt.Errorf("authenticate to the mail server: %w", err)
	}
	return nil
}

func local(conn net.Conn) bool {
	a, ok := conn.RemoteAddr().(*net.TCPAddr)
	return ok && a.IP.IsLoopback()
}

// transmit hands over the message to all who do not have it yet.
func (e *Email) transmit(c *smtp.Client, m *Message, content []byte) error {
	if err := c.Mail("<" + e.from.Address + ">"); err != nil {
		return fmt.Errorf("the mail server refuses the sender: %w", err)
	}
	var taken, refused []string
	var problem error
	later := false
	for _, to := range e.to {
		if slices.Contains(m.reached, to.Address) {
			continue
		}
		err := c.Rcpt("<" + to.Address + ">")
		var answer *textproto.Error
		switch {
		case err == nil:
			taken = append(taken, to.Address)
		case errors.As(err, &answer):
			refused = append(refused, to.Address)
			problem = err
			later = later || answer.Code < 500
		default:
			return fmt.Errorf("name a recipient to the mail server: %w", err)
		}
	}
	if len(taken) > 0 {
		w, err := c.Data()
		if err != nil {
			return fmt.Errorf("hand over the message: %w", err)
		}
		if _, err := w.Write(content); err != nil {
			return fmt.Errorf("hand over the message: %w", err)
		}
		if err := w.Close(); err != nil {
			return fmt.Errorf("hand over the message: %w", err)
		}
		m.reached = append(m.reached, taken...)
	}
	if len(refused) > 0 {
		return &SendError{Err: fmt.Errorf("the mail server refuses %s: %w", strings.Join(refused, ", "), problem), Permanent: !later}
	}
	// What the server says to the farewell changes nothing: it has taken the message.
	_ = c.Quit()
	return nil
}

// emailHTML is the HTML form of a message. The text is one that html/template escapes; nothing is loaded from
// anywhere, and only a link of ours can be followed.
const emailHTML = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{{.Title}}</title></head>
<body style="font-family:sans-serif">
{{range .Items}}<h2 style="font-size:1.1em">{{.Title}}</h2>
<p>{{.Severity}} &middot; {{.Kind}}{{with .Site}} &middot; {{.}}{{end}} &middot; {{.When}}</p>
{{with .Text}}<p style="white-space:pre-wrap">{{.}}</p>
{{end}}{{with .Numbers}}<ul>{{range .}}<li>{{.}}</li>{{end}}</ul>
{{end}}{{with .Examples}}<p>Among them:</p><ul>{{range .}}<li>{{.}}</li>{{end}}</ul>
{{end}}{{with .CaseIDs}}<p>Cases:{{range .}} <code>{{.}}</code>{{end}}</p>
{{end}}{{with .Link}}<p><a href="{{.}}">{{.}}</a></p>
{{end}}{{end}}{{with .Omitted}}<p>Left out: {{.}} more kinds or sites.</p>
{{end}}{{with .Note}}<p>{{.}}</p>
{{end}}</body></html>
`

// shortConn is a connection of which a bounded number of bytes is read: a server that talks without
// end gets no memory.
type shortConn struct {
	net.Conn
	left int
}

var errTalkative = errors.New("the mail server answers at too great a length")

func (c *shortConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTalkative
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}
