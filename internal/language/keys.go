package language

// Key names one message. What each says is in messages/en.yaml; the catalogue's
// name of a key is its String.
type Key uint8

// The messages. Those with a count take it as {seconds} or {minutes}.
const (
	// None is no message: its text is empty.
	None Key = iota

	ChallengeTitle    // heading of every challenge page
	ChallengeWhy      // why there is a check at all
	ChallengeWait     // kinds silent and refresh; {seconds}
	ChallengeWork     // kind work; {seconds}
	ChallengeQuestion // kind question
	ChallengeCaptcha  // kind captcha
	QuestionChoose    // the question itself; {word}
	QuestionLabel     // names the group of answers
	WrongAnswer
	ButtonGoOn
	LinkWithoutScript // to the way without JavaScript
	LinkContinue      // for browsers that do not go on by themselves
	LinkWayOut        // out of the tarpit, for a person who came into it by mistake
	NoScript          // shown where JavaScript is off
	Progress          // names the progress bar
	StatusWorking
	StatusAlmost
	StatusOffline
	StatusFailed

	CookieTitle // the check's cookie did not come back
	CookieText
	ExpiredTitle // the page lay open for too long
	ExpiredText
	IncompleteTitle // the address was cut off or changed
	IncompleteText
	UsedTitle // the ticket was redeemed elsewhere
	UsedText
	EarlyTitle // came back before the wait was over
	EarlyText
	LoopTitle // passed, but the clearance is not kept
	LoopText
	ScriptErrorTitle
	ScriptErrorText
	SeveralTitle // several attempts failed
	SeveralText
	AttemptsTitle // too many attempts from one network
	AttemptsText  // {seconds}
	SpentTitle    // a clearance's budget is spent
	SpentText     // {seconds}

	HoldTitle  // what was sent is kept until the check is passed
	HoldText   // {minutes}
	HoldButton // sends it
	HoldGoneTitle
	HoldGoneText
	ForeignFormTitle // a form on another site was sent here
	ForeignFormText
	FormTooLargeTitle // too large to be kept during the check
	FormTooLargeText

	MethodTitle // CONNECT and the like
	MethodText
	UnknownSiteTitle
	UnknownSiteText
	ThrottleTitle
	ThrottleText
	UploadStoppedTitle
	UploadStoppedText
	BadRequestTitle
	BadRequestText
	TimeoutTitle // the upstream did not answer in time
	TimeoutText
	UnavailableTitle // the upstream cannot be reached
	UnavailableText
	TooLargeTitle
	TooLargeText
	NotFoundTitle
	NotFoundText
	RefusedTitle
	RefusedText
	Reason // {reason}

	Contact       // {contact}
	RequestNumber // {id}
	TryAgain
	StartAgain

	keyCount
)

var names = [keyCount]string{
	ChallengeTitle:     "challengeTitle",
	ChallengeWhy:       "challengeWhy",
	ChallengeWait:      "challengeWait",
	ChallengeWork:      "challengeWork",
	ChallengeQuestion:  "challengeQuestion",
	ChallengeCaptcha:   "challengeCaptcha",
	QuestionChoose:     "questionChoose",
	QuestionLabel:      "questionLabel",
	WrongAnswer:        "wrongAnswer",
	ButtonGoOn:         "buttonGoOn",
	LinkWithoutScript:  "linkWithoutScript",
	LinkContinue:       "linkContinue",
	LinkWayOut:         "linkWayOut",
	NoScript:           "noScript",
	Progress:           "progress",
	StatusWorking:      "statusWorking",
	StatusAlmost:       "statusAlmost",
	StatusOffline:      "statusOffline",
	StatusFailed:       "statusFailed",
	CookieTitle:        "cookieTitle",
	CookieText:         "cookieText",
	ExpiredTitle:       "expiredTitle",
	ExpiredText:        "expiredText",
	IncompleteTitle:    "incompleteTitle",
	IncompleteText:     "incompleteText",
	UsedTitle:          "usedTitle",
	UsedText:           "usedText",
	EarlyTitle:         "earlyTitle",
	EarlyText:          "earlyText",
	LoopTitle:          "loopTitle",
	LoopText:           "loopText",
	ScriptErrorTitle:   "scriptErrorTitle",
	ScriptErrorText:    "scriptErrorText",
	SeveralTitle:       "severalTitle",
	SeveralText:        "severalText",
	AttemptsTitle:      "attemptsTitle",
	AttemptsText:       "attemptsText",
	SpentTitle:         "spentTitle",
	SpentText:          "spentText",
	HoldTitle:          "holdTitle",
	HoldText:           "holdText",
	HoldButton:         "holdButton",
	HoldGoneTitle:      "holdGoneTitle",
	HoldGoneText:       "holdGoneText",
	ForeignFormTitle:   "foreignFormTitle",
	ForeignFormText:    "foreignFormText",
	FormTooLargeTitle:  "formTooLargeTitle",
	FormTooLargeText:   "formTooLargeText",
	MethodTitle:        "methodTitle",
	MethodText:         "methodText",
	UnknownSiteTitle:   "unknownSiteTitle",
	UnknownSiteText:    "unknownSiteText",
	ThrottleTitle:      "throttleTitle",
	ThrottleText:       "throttleText",
	UploadStoppedTitle: "uploadStoppedTitle",
	UploadStoppedText:  "uploadStoppedText",
	BadRequestTitle:    "badRequestTitle",
	BadRequestText:     "badRequestText",
	TimeoutTitle:       "timeoutTitle",
	TimeoutText:        "timeoutText",
	UnavailableTitle:   "unavailableTitle",
	UnavailableText:    "unavailableText",
	TooLargeTitle:      "tooLargeTitle",
	TooLargeText:       "tooLargeText",
	NotFoundTitle:      "notFoundTitle",
	NotFoundText:       "notFoundText",
	RefusedTitle:       "refusedTitle",
	RefusedText:        "refusedText",
	Reason:             "reason",
	Contact:            "contact",
	RequestNumber:      "requestNumber",
	TryAgain:           "tryAgain",
	StartAgain:         "startAgain",
}

// String returns the key's name in the catalogues, "" for None and what is no key.
func (k Key) String() string {
	if k < keyCount {
		return names[k]
	}
	return ""
}

// Keys returns every key but None, in their order.
func Keys() []Key {
	all := make([]Key, 0, keyCount-1)
	for k := None + 1; k < keyCount; k++ {
		all = append(all, k)
	}
	return all
}

// KeyOf returns the key of that name, false if there is none.
func KeyOf(name string) (Key, bool) {
	for k := None + 1; k < keyCount; k++ {
		if names[k] == name {
			return k, true
		}
	}
	return None, false
}
