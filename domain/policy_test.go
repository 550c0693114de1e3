package domain_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/jobgate/jobgate/domain"
)

var (
	alice = domain.Identity{Issuer: "https://issuer.example/", Subject: "alice"}
	bob   = domain.Identity{Issuer: "https://issuer.example/", Subject: "bob"}
	// The same subject of another issuer is another caller.
	otherAlice = domain.Identity{Issuer: "https://other.example/", Subject: "alice"}
)

func caller(who domain.Identity, scopes ...string) domain.Principal {
	return domain.Principal{Identity: who, Scopes: scopes, TokenID: "token-1"}
}

func TestDefaultPolicyGrantsEachActionByTheScopeOfItsName(t *testing.T) {
	t.Parallel()
	policy := domain.DefaultPolicy()
	if problems := policy.Validate(2); problems != nil {
		t.Fatalf("the default policy is refused: %q", problems)
	}
	for _, scope := range []string{"", "jobs:submit", "jobs:read", "jobs:cancel", "jobs:redrive", "jobs:admin", "jobs", "jobs:*", "JOBS:READ"} {
		who := caller(alice, "openid", scope)
		admin := scope == "jobs:admin"
		for _, action := range domain.Actions {
			own := admin || scope == "jobs:"+string(action)
			if got := policy.AtGate(who, action).Allowed; got != own {
				t.Errorf("scope %q, %s at the gate: %t", scope, action, got)
			}
			if got := policy.Decide(who, action, "test-job", alice).Allowed; got != own {
				t.Errorf("scope %q, %s of a job of their own: %t", scope, action, got)
			}
			for _, owner := range []domain.Identity{bob, otherAlice, {}} {
				if got := policy.Decide(who, action, "test-job", owner).Allowed; got != admin {
					t.Errorf("scope %q, %s of a job of %+v: %t", scope, action, owner, got)
				}
			}
		}
		if got := policy.SeesAll(who); got != admin {
			t.Errorf("scope %q sees every owner's jobs: %t", scope, got)
		}
	}
}

// read makes a rule about reading, which change alters.
func read(effect domain.Effect, change func(*domain.Rule)) domain.Rule {
	r := domain.Rule{Effect: effect, Actions: []domain.Action{domain.ActionRead}}
	if change != nil {
		change(&r)
	}
	return r
}

func scopes(s ...string) func(*domain.Rule)   { return func(r *domain.Rule) { r.Scopes = s } }
func subjects(s ...string) func(*domain.Rule) { return func(r *domain.Rule) { r.Subjects = s } }
func issuers(s ...string) func(*domain.Rule)  { return func(r *domain.Rule) { r.Issuers = s } }
func jobs(s ...string) func(*domain.Rule)     { return func(r *domain.Rule) { r.Jobs = s } }
func anyOwner(r *domain.Rule)                 { r.AnyOwner = true }

func TestDecide(t *testing.T) {
	t.Parallel()
	const allow, deny = domain.Allow, domain.Deny
	var (
		yes   = func(rule int) domain.Decision { return domain.Decision{Allowed: true, Rule: rule} }
		no    = func(rule int) domain.Decision { return domain.Decision{Rule: rule, Reason: domain.ReasonForbidden} }
		lacks = func(s ...string) domain.Decision {
			return domain.Decision{Rule: -1, Reason: domain.ReasonInsufficientScope, Scopes: s}
		}
		nobody = no(-1)
	)
	tests := []struct {
		name   string
		rules  []domain.Rule
		who    domain.Principal
		owner  domain.Identity
		gate   domain.Decision // read, at the gate
		behind domain.Decision // read, of the job report.daily of owner
	}{
		{"no rule", nil, caller(alice, "a"), alice, nobody, nobody},
		{"a rule without conditions", []domain.Rule{read(allow, nil)}, caller(alice), alice, yes(0), yes(0)},
		{"the first rule that allows decides", []domain.Rule{read(allow, subjects("bob")), read(allow, nil), read(allow, nil)}, caller(alice), alice, yes(1), yes(1)},
		{"a rule for other actions", []domain.Rule{{Effect: allow, Actions: []domain.Action{domain.ActionSubmit}}}, caller(alice), alice, nobody, nobody},
		{"deny beats an allow before it", []domain.Rule{read(allow, nil), read(deny, subjects("alice"))}, caller(alice), alice, no(1), no(1)},
		{"deny beats an allow after it", []domain.Rule{read(deny, subjects("alice")), read(allow, nil)}, caller(alice), alice, no(0), no(0)},
		{"a deny for somebody else", []domain.Rule{read(deny, subjects("bob")), read(allow, nil)}, caller(alice), alice, yes(1), yes(1)},
		{"a deny for a scope that the caller has", []domain.Rule{read(allow, nil), read(deny, scopes("guest"))}, caller(alice, "guest"), alice, no(1), no(1)},
		{"a deny for scopes that the caller has in part", []domain.Rule{read(allow, nil), read(deny, scopes("guest", "trial"))}, caller(alice, "guest"), alice, yes(0), yes(0)},

		{"all scopes are needed", []domain.Rule{read(allow, scopes("a", "b"))}, caller(alice, "b"), alice, lacks("a", "b"), lacks("a", "b")},
		{"all scopes are there", []domain.Rule{read(allow, scopes("a", "b"))}, caller(alice, "b", "c", "a"), alice, yes(0), yes(0)},
		{"no scope at all", []domain.Rule{read(allow, scopes("a"))}, caller(alice), alice, lacks("a"), lacks("a")},
		{"the first rule's scopes are named", []domain.Rule{read(allow, scopes("a")), read(allow, scopes("b"))}, caller(alice), alice, lacks("a"), lacks("a")},
		{"another rule's scope suffices", []domain.Rule{read(allow, scopes("a")), read(allow, scopes("b"))}, caller(alice, "b"), alice, yes(1), yes(1)},
		{"a deny says nothing of scopes", []domain.Rule{read(allow, scopes("a")), read(deny, nil)}, caller(alice), alice, no(1), no(1)},
		{"a deny's scopes do not help", []domain.Rule{read(deny, scopes("a"))}, caller(alice), alice, nobody, nobody},
		{"scopes of a rule for somebody else do not help", []domain.Rule{read(allow, func(r *domain.Rule) { r.Scopes, r.Subjects = []string{"a"}, []string{"bob"} })}, caller(alice), alice, nobody, nobody},

		{"subject of the wrong issuer", []domain.Rule{read(allow, func(r *domain.Rule) {
			r.Subjects, r.Issuers = []string{"alice"}, []string{alice.Issuer}
		})}, caller(otherAlice), otherAlice, nobody, nobody},
		{"any of the subjects", []domain.Rule{read(allow, subjects("bob", "alice"))}, caller(alice), alice, yes(0), yes(0)},
		{"any of the issuers", []domain.Rule{read(allow, issuers("x", alice.Issuer))}, caller(alice), alice, yes(0), yes(0)},
		{"an issuer is compared byte for byte", []domain.Rule{read(allow, issuers("https://issuer.example"))}, caller(alice), alice, nobody, nobody},

		{"an allow for this job name", []domain.Rule{read(allow, jobs("x", "report.*"))}, caller(alice), alice, yes(0), yes(0)},
		{"an allow for other job names counts at the gate", []domain.Rule{read(allow, jobs("mail.*"))}, caller(alice), alice, yes(0), nobody},
		{"a deny for this job name counts behind the gate", []domain.Rule{read(allow, nil), read(deny, jobs("report.*"))}, caller(alice), alice, yes(0), no(1)},
		{"a deny for other job names", []domain.Rule{read(allow, nil), read(deny, jobs("mail.*"))}, caller(alice), alice, yes(0), yes(0)},
		{"a deny of a job name holds for every owner", []domain.Rule{read(allow, anyOwner), read(deny, jobs("report.*"))}, caller(alice), bob, yes(0), no(1)},

		{"another's job", []domain.Rule{read(allow, nil)}, caller(alice), bob, yes(0), nobody},
		{"another's job, by any owner", []domain.Rule{read(allow, nil), read(allow, anyOwner)}, caller(alice), bob, yes(0), yes(1)},
		{"a namesake's job", []domain.Rule{read(allow, nil)}, caller(alice), otherAlice, yes(0), nobody},
		{"nobody's job", []domain.Rule{read(allow, nil)}, caller(alice), domain.Identity{}, yes(0), nobody},
		{"a scope for one's own does not help with another's", []domain.Rule{read(allow, scopes("a"))}, caller(alice), bob, lacks("a"), nobody},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			policy := domain.AccessPolicy{Rules: tt.rules}
			if diff := cmp.Diff(tt.gate, policy.AtGate(tt.who, domain.ActionRead)); diff != "" {
				t.Errorf("at the gate (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.behind, policy.Decide(tt.who, domain.ActionRead, "report.daily", tt.owner)); diff != "" {
				t.Errorf("behind it (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRevocation(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		revoked []domain.Revocation
		who     domain.Identity
		tokenID string
		want    bool
	}{
		{"nobody", nil, alice, "token-1", false},
		{"the subject", []domain.Revocation{{Subject: "alice"}}, alice, "token-1", true},
		{"the subject at this issuer", []domain.Revocation{{Issuer: alice.Issuer, Subject: "alice"}}, alice, "token-1", true},
		{"a namesake", []domain.Revocation{{Issuer: alice.Issuer, Subject: "alice"}}, otherAlice, "token-1", false},
		{"another subject", []domain.Revocation{{Subject: "bob"}}, alice, "token-1", false},
		{"the token", []domain.Revocation{{TokenID: "token-1"}}, alice, "token-1", true},
		{"the token of another issuer", []domain.Revocation{{Issuer: otherAlice.Issuer, TokenID: "token-1"}}, alice, "token-1", false},
		{"another token", []domain.Revocation{{TokenID: "token-2"}}, alice, "token-1", false},
		{"a token without an id", []domain.Revocation{{TokenID: "token-1"}}, alice, "", false},
		{"an empty entry is nobody, not everybody", []domain.Revocation{{}, {Issuer: alice.Issuer}}, domain.Identity{Issuer: alice.Issuer}, "", false},
		{"the second entry", []domain.Revocation{{Subject: "bob"}, {TokenID: "token-1"}}, alice, "token-1", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			policy := domain.AccessPolicy{Rules: []domain.Rule{read(domain.Allow, anyOwner)}, Revoked: tt.revoked}
			who := domain.Principal{Identity: tt.who, TokenID: tt.tokenID}
			if got := policy.Revokes(tt.who, tt.tokenID); got != tt.want {
				t.Errorf("Revokes = %t", got)
			}
			for where, d := range map[string]domain.Decision{
				"at the gate": policy.AtGate(who, domain.ActionRead),
				"behind it":   policy.Decide(who, domain.ActionRead, "test-job", tt.who),
			} {
				if d.Allowed == tt.want {
					t.Errorf("%s: allowed %t", where, d.Allowed)
				}
			}
			if got := policy.SeesAll(who); got == tt.want {
				t.Errorf("SeesAll = %t", got)
			}
			if got := policy.Standing(who, t0) != nil; got != tt.want {
				t.Errorf("lost its standing: %t", got)
			}
		})
	}
}

func TestStanding(t *testing.T) {
	t.Parallel()
	policy := domain.AccessPolicy{Revoked: []domain.Revocation{{Subject: "bob"}}}
	tests := []struct {
		name string
		who  domain.Principal
		want domain.Reason
	}{
		{"in good standing", domain.Principal{Identity: alice, ExpiresAt: t0.Add(1)}, ""},
		{"without an end", domain.Principal{Identity: alice}, ""},
		{"expired", domain.Principal{Identity: alice, ExpiresAt: t0}, domain.ReasonTokenExpired},
		{"revoked", domain.Principal{Identity: bob, ExpiresAt: t0.Add(1)}, domain.ReasonInvalidToken},
		{"both", domain.Principal{Identity: bob, ExpiresAt: t0}, domain.ReasonTokenExpired},
	}
	for _, tt := range tests {
		err := policy.Standing(tt.who, t0)
		if tt.want == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		if domain.KindOf(err) != domain.Unauthenticated || domain.ReasonOf(err) != tt.want {
			t.Errorf("%s: %v (%v, %s), want unauthenticated, %s", tt.name, err, domain.KindOf(err), domain.ReasonOf(err), tt.want)
		}
	}
}

func TestDecisionErr(t *testing.T) {
	t.Parallel()
	if err := (domain.Decision{Allowed: true, Scopes: []string{"a"}}).Err(); err != nil {
		t.Errorf("an allowed decision is the error %v", err)
	}
	tests := []struct {
		decision domain.Decision
		message  string
	}{
		{domain.Decision{Reason: domain.ReasonForbidden}, "the access policy does not allow this"},
		{domain.Decision{Reason: domain.ReasonInsufficientScope, Scopes: []string{"jobs:read", "x"}}, "the token lacks the scope jobs:read x"},
	}
	for _, tt := range tests {
		want := &domain.Error{Kind: domain.Forbidden, Reason: tt.decision.Reason, Message: tt.message, Scopes: tt.decision.Scopes}
		if diff := cmp.Diff(error(want), tt.decision.Err()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestSeesAll(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		rules []domain.Rule
		want  bool
	}{
		{"one's own alone", []domain.Rule{read(domain.Allow, nil)}, false},
		{"any owner's", []domain.Rule{read(domain.Allow, anyOwner)}, true},
		{"any owner's of some names", []domain.Rule{read(domain.Allow, func(r *domain.Rule) { r.AnyOwner, r.Jobs = true, []string{"report.*"} })}, true},
		{"any owner's, but denied", []domain.Rule{read(domain.Allow, anyOwner), read(domain.Deny, nil)}, false},
		{"any owner's, but for some names", []domain.Rule{read(domain.Allow, anyOwner), read(domain.Deny, jobs("mail.*"))}, true},
		{"any owner's by a scope that is not there", []domain.Rule{read(domain.Allow, func(r *domain.Rule) { r.AnyOwner, r.Scopes = true, []string{"admin"} })}, false},
		{"any owner's for cancelling", []domain.Rule{{Effect: domain.Allow, Actions: []domain.Action{domain.ActionCancel}, AnyOwner: true}}, false},
	}
	for _, tt := range tests {
		if got := (domain.AccessPolicy{Rules: tt.rules}).SeesAll(caller(alice, "jobs:read")); got != tt.want {
			t.Errorf("%s: SeesAll = %t", tt.name, got)
		}
	}
}

func drawPolicy(t *rapid.T) domain.AccessPolicy {
	some := func(t *rapid.T, label string, of ...string) []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(of), 0, 2, rapid.ID[string]).Draw(t, label)
	}
	rule := rapid.Custom(func(t *rapid.T) domain.Rule {
		r := domain.Rule{
			Effect:   rapid.SampledFrom([]domain.Effect{domain.Allow, domain.Allow, domain.Deny}).Draw(t, "effect"),
			Issuers:  some(t, "issuers", alice.Issuer, otherAlice.Issuer),
			Subjects: some(t, "subjects", "alice", "bob"),
			Scopes:   some(t, "scopes", "a", "b"),
			Actions:  rapid.SliceOfNDistinct(rapid.SampledFrom(domain.Actions), 1, 4, rapid.ID[domain.Action]).Draw(t, "actions"),
			Jobs:     some(t, "jobs", "*", "report.*", "report.daily", "mail"),
		}
		r.AnyOwner = r.Effect == domain.Allow && rapid.Bool().Draw(t, "any owner")
		return r
	})
	p := domain.AccessPolicy{Rules: rapid.SliceOfN(rule, 1, 5).Draw(t, "rules")}
	if rapid.IntRange(0, 9).Draw(t, "revoked") == 0 {
		p.Revoked = []domain.Revocation{{Issuer: alice.Issuer, Subject: "alice"}}
	}
	return p
}

// What a gate may cache and what is asked behind it have to agree: the gate never refuses what would be allowed
// behind it, whoever owns the job; behind it less may be allowed, since there the job's name and owner are known.
func TestTheGateRefusesNothingThatIsAllowedBehindIt(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		policy := drawPolicy(t)
		if problems := policy.Validate(1); problems != nil {
			t.Fatalf("%q", problems)
		}
		who := caller(rapid.SampledFrom([]domain.Identity{alice, bob, otherAlice}).Draw(t, "who"),
			rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b"}), 0, 2, rapid.ID[string]).Draw(t, "scopes")...)
		action := rapid.SampledFrom(domain.Actions).Draw(t, "action")
		name := rapid.SampledFrom([]string{"report.daily", "report.weekly", "mail", "other"}).Draw(t, "name")
		owner := rapid.SampledFrom([]domain.Identity{alice, bob, otherAlice, {}}).Draw(t, "owner")

		gate, behind := policy.AtGate(who, action), policy.Decide(who, action, name, owner)
		if behind.Allowed && !gate.Allowed {
			t.Errorf("allowed behind the gate by rule %d and refused at it: %+v", behind.Rule, gate)
		}
		if behind.Allowed && owner != who.Identity && !policy.Rules[behind.Rule].AnyOwner {
			t.Errorf("rule %d reaches another's job without any_owner", behind.Rule)
		}
		if behind.Allowed && owner != who.Identity && action == domain.ActionRead && !policy.SeesAll(who) {
			t.Error("a job that the caller may read is left out of their listing")
		}
		// Where no rule names jobs and the job is the caller's own, nothing more is known behind the gate.
		named := slices.ContainsFunc(policy.Rules, func(r domain.Rule) bool { return len(r.Jobs) > 0 })
		if !named && owner == who.Identity && !cmp.Equal(gate, behind) {
			t.Errorf("%+v at the gate, %+v behind it", gate, behind)
		}
		// The order of rules never matters for what is allowed.
		turned := domain.AccessPolicy{Rules: slices.Clone(policy.Rules), Revoked: policy.Revoked}
		slices.Reverse(turned.Rules)
		if turned.AtGate(who, action).Allowed != gate.Allowed || turned.Decide(who, action, name, owner).Allowed != behind.Allowed {
			t.Error("the order of the rules decides")
		}
	})
}

func TestPolicyValidateReportsEverythingAtOnce(t *testing.T) {
	t.Parallel()
	bad := domain.AccessPolicy{
		Rules: []domain.Rule{
			{Effect: "permit", Actions: []domain.Action{"delete"}},
			{Effect: domain.Deny, AnyOwner: true},
			read(domain.Allow, func(r *domain.Rule) {
				r.Scopes = []string{"ok", "a b", "", `"`, `\`, "é", "a\x7f"}
				r.Jobs = []string{"report.*", "*.report"}
				r.Subjects = []string{""}
			}),
			read(domain.Allow, issuers("")),
		},
		Revoked: []domain.Revocation{{Issuer: "i"}, {Issuer: "i", Subject: "s", TokenID: "t"}, {Subject: "s"}},
	}
	want := []string{
		"rules[0]: effect", `rules[0]: "delete" is no action`,
		"rules[1]: any_owner", "rules[1]: actions",
		`rules[2]: "a b" is no scope`, `rules[2]: "" is no scope`, `rules[2]: "\"" is no scope`, `rules[2]: "\\" is no scope`,
		`rules[2]: "é" is no scope`, `rules[2]: "a\x7f" is no scope`, `rules[2]: "*.report" is no job name`,
		"rules[2]: an empty issuer or subject", "rules[2]: subjects needs issuers",
		"rules[3]: an empty issuer or subject",
		"revoked[0]: name either", "revoked[1]: name either", "revoked[2]: issuer is needed",
	}
	if got := bad.Validate(2); !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("problems (-want +got):\n%s", cmp.Diff(want, got))
	}
	if got := (domain.AccessPolicy{}).Validate(1); len(got) != 1 || !strings.HasPrefix(got[0], "there is no rule") {
		t.Errorf("a policy that lets nobody in: %q", got)
	}
}

func TestWithOneIssuerASubjectNeedsNoIssuer(t *testing.T) {
	t.Parallel()
	policy := domain.AccessPolicy{
		Rules:   []domain.Rule{read(domain.Allow, subjects("alice"))},
		Revoked: []domain.Revocation{{Subject: "bob"}, {TokenID: "t"}},
	}
	if got := policy.Validate(1); got != nil {
		t.Errorf("one issuer: %q", got)
	}
	if got := policy.Validate(2); len(got) != 3 {
		t.Errorf("two issuers: %q, want three problems", got)
	}
}

func TestAJobWithoutAnOwnerIsNobodysOwn(t *testing.T) {
	t.Parallel()
	policy := domain.DefaultPolicy()
	nobody := domain.Principal{Scopes: []string{"jobs:read"}}
	if policy.Decide(nobody, domain.ActionRead, "a", domain.Identity{}).Allowed {
		t.Error("a caller without an identity reads jobs without an owner")
	}
	nobody.Scopes = []string{"jobs:admin"}
	if !policy.Decide(nobody, domain.ActionRead, "a", domain.Identity{}).Allowed {
		t.Error("an administrator does not read jobs without an owner")
	}
}
