package local

import (
	"fmt"
	"io"
	"strings"
)

// welcome tells a person where everything is and what to paste. It is printed once the service can be used: its
// listener is open, and requests wait for the server.
func (s *local) welcome(w io.Writer) {
	fmt.Fprintf(w, "jobgate is ready.\n\n  API       %s\n", s.url)
	if s.provider == nil {
		fmt.Fprintf(w, "  Data      %s\n\nTokens are those of the issuer that the settings name.\n\n", s.cfg.DataDir)
		s.submitLine(w)
		return
	}
	fmt.Fprintf(w, "  Provider  %s\n  Data      %s\n\nUsers who can log in, and what they may ask for:\n", s.issuer, s.cfg.DataDir)
	for _, user := range s.provider.Users() {
		fmt.Fprintf(w, "  %-8s %-28s %s\n", user.Name, user.Password, strings.Join(user.Scopes, " "))
	}
	fmt.Fprintf(w, "\nLog in as one of them, in the browser, or with a code on a machine without one (--device):\n\n  jobgate login --server %s --issuer %s\n", s.url, s.issuer)
	for _, client := range s.provider.Clients() {
		if client.Secret == "" {
			continue
		}
		fmt.Fprintf(w, "\nOr get a token for a script, valid for 15 minutes:\n\n  TOKEN=$(curl -sS -u '%s:%s' -d grant_type=client_credentials -d 'scope=jobs:submit jobs:read' \\\n    %s/oauth/token | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')\n\n",
			client.ID, client.Secret, s.issuer)
		break
	}
	s.submitLine(w)
}

func (s *local) submitLine(w io.Writer) {
	fmt.Fprintf(w, "Submit a job, and look at your jobs:\n\n  curl -sS -i -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' -d '{\"name\":\"test-job\"}' %s/jobs\n\n  curl -sS -H \"Authorization: Bearer $TOKEN\" %s/jobs\n\nStop with Ctrl-C.\n",
		s.url, s.url)
}
