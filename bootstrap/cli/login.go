package cli

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/jobgate/jobgate/bootstrap/cli/session"
)

func (t terminal) login() *cobra.Command {
	var (
		p                                     session.Profile
		device, client, tokenStdin, noBrowser bool
		secretFile, keyring                   string
	)
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Log in, and make a profile of it",
		Long: `Login logs in at the OpenID Connect issuer that a server trusts, and keeps that as a profile: the other commands go by it,
and have tokens replaced before they expire. Without flags it is for "local", the service on this machine; a later login
to the same profile need not repeat them.

A person does so in a browser: on this machine (authorization code with PKCE), or with --device on any, by a code that is
typed in there. A program has --client-credentials, with its secret in JOBGATE_CLIENT_SECRET or in a file, or --token-stdin
for a token that was had elsewhere. Where there is no disk to keep anything on, JOBGATE_SERVER and JOBGATE_TOKEN do
without a login.

Tokens are kept in a file in the user's directory for settings (JOBGATE_CONFIG_DIR is another), sealed with a key in the
operating system's keyring where there is one.`,
		Example: `  jobgate login
  jobgate login --server https://jobs.example.com --issuer https://id.example.com --client-id jobgate-cli
  jobgate login --device --profile staging
  JOBGATE_CLIENT_SECRET=… jobgate login --client-credentials --client-id ci
  jobgate login --token-stdin <token.txt`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := exclusive(cmd, "device", "client-credentials", "token-stdin"); err != nil {
				return err
			}
			opts := session.Options{
				Keyring: session.Keyring(keyring), Show: t.prompt, Open: t.browse,
				Warn: func(text string) { t.say("warning: %s", text) },
			}
			switch opts.Keyring {
			case session.KeyringAuto, session.KeyringRequired, session.KeyringOff:
			default:
				return misuse(fmt.Errorf("--keyring %q is none of auto, required and off", keyring))
			}
			if secretFile != "" && !client {
				return misuse(errors.New("--client-secret-file belongs to --client-credentials"))
			}
			if noBrowser {
				opts.Open = nil
			}
			var err error
			if p.Name, err = cmd.Flags().GetString("profile"); err != nil {
				return err
			}
			scopes := p.Scopes
			p.Scopes = nil
			for _, s := range scopes { // one flag may hold several, as the parameter does
				p.Scopes = append(p.Scopes, strings.Fields(s)...)
			}
			s, err := session.New(t.getenv, p, t.now)
			if err != nil {
				return err
			}
			var l session.Login
			switch ctx := cmd.Context(); {
			case device:
				l, err = s.Device(ctx, opts)
			case client:
				l, err = s.ClientCredentials(ctx, opts, secretFile)
			case tokenStdin:
				var token string
				if token, err = readHeader(ctx, t.stdin); err == nil {
					l, err = s.Adopt(ctx, opts, token)
				}
			default:
				l, err = s.Browser(ctx, opts)
			}
			if err != nil {
				return err
			}
			t.loggedIn(s.Profile(), l)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.Server, "server", "", "the server's URL (default $JOBGATE_SERVER, or http://127.0.0.1:8080)")
	f.StringVar(&p.Issuer, "issuer", "", "the issuer to log in at, as its discovery document has it (default that of \"local\", for a server on this machine)")
	f.StringVar(&p.ClientID, "client-id", "", "this program's id at the issuer (default \"jobgate\")")
	f.StringVar(&p.Audience, "audience", "", "the audience to ask for, where the issuer needs to be told")
	f.StringArrayVar(&p.Scopes, "scope", nil, "a scope to ask for, once for each (default those of jobs)")
	f.StringVar(&p.RedirectHost, "redirect-host", "", "where the browser comes back to: 127.0.0.1, ::1, or localhost for issuers that insist (default 127.0.0.1)")
	f.IntVar(&p.RedirectPort, "redirect-port", 0, "the port there, for issuers that insist on one (default a random one)")
	f.BoolVar(&noBrowser, "no-browser", false, "open no browser, only print the page's address")
	f.BoolVar(&device, "device", false, "log in by a browser on another machine")
	f.BoolVar(&client, "client-credentials", false, "log in as a program; its secret is in JOBGATE_CLIENT_SECRET")
	f.StringVar(&secretFile, "client-secret-file", "", "the file with the program's secret")
	f.BoolVar(&tokenStdin, "token-stdin", false, "use the access token on standard input")
	f.StringVar(&keyring, "keyring", string(session.KeyringAuto), "whether to seal the tokens with a key in the keyring: auto, required or off")
	return cmd
}

// exclusive refuses more than one of the flags, in plainer words than cobra has.
func exclusive(cmd *cobra.Command, names ...string) error {
	var given []string
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			given = append(given, "--"+name)
		}
	}
	if len(given) > 1 {
		return misuse(fmt.Errorf("%s do not go together", strings.Join(given, " and ")))
	}
	return nil
}

func (t terminal) prompt(p session.Prompt) {
	if p.Code == "" {
		t.say("To log in, open in a browser\n\n  %s\n", p.URL)
		return
	}
	t.say("Open\n\n  %s\n\non any machine and give the code\n\n  %s\n", p.URL, p.Code)
	if p.Complete != "" {
		t.say("or, with the code in it already,\n\n  %s\n", p.Complete)
	}
	t.say("within %v, and only if it is you who asked for it.", p.Lasts.Round(time.Second))
}

// browse opens a page in the user's browser, or in what BROWSER names.
func (t terminal) browse(ctx context.Context, page string) error {
	command := []string{"xdg-open"}
	switch browser := t.getenv("BROWSER"); {
	case browser != "":
		command = []string{browser}
	case runtime.GOOS == "windows":
		command = []string{"rundll32", "url.dll,FileProtocolHandler"}
	case runtime.GOOS == "darwin":
		command = []string{"open"}
	}
	// The browser is the user's, and outlives this program.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), command[0], append(command[1:], page)...) //nolint:gosec // G204: BROWSER is the user's own, and page begins with http
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

func (t terminal) loggedIn(p session.Profile, l session.Login) {
	who := ""
	if l.Subject != "" {
		who = fmt.Sprintf(" as %q", l.Subject)
	}
	until := ""
	if !l.Expires.IsZero() && !l.Refreshable {
		until = ", until " + l.Expires.UTC().Format(time.RFC3339)
	}
	fmt.Fprintf(t.stdout, "logged in to %s%s (profile %s)%s\n", p.Server, who, p.Name, until)
}
