// How letters about failed deliveries begin and what they say; all in lower case.

enum LetterPhrases {
    /// Whom they come from.
    static let senders = [
        "mailer-daemon", "mailerdaemon", "postmaster", "mail-daemon", "maildaemon", "mdaemon",
        "mail delivery",
        "bounce", "noreply-bounce", "mailerdeamon", "mailadmin", "mail.delivery", "mailsystem",
        "no-reply@bounce",
        "auto-notify", "root@", "postoffice@", "mmdf", "notifier@",
    ]

    static let subjects = [
        "undeliver", "delivery fail", "delivery status", "delivery notification", "delivery report",
        "delivery error",
        "delivery problem", "delivery has failed", "delivery incomplete", "delivery failure", "mail delivery",
        "message delivery", "returned mail", "returned to sender", "return receipt", "returned message",
        "failure notice",
        "failure delivery", "failed mail", "failed delivery", "mail failure", "message failed",
        "could not be delivered",
        "couldn't be delivered", "cannot be delivered", "not delivered", "non-deliver", "nondeliver",
        "non delivery",
        "unable to deliver", "can't deliver", "can't be delivered", "mail error", "mail system error",
        "error sending",
        "user unknown", "unknown user", "rejected", "bounce", "warning: could not send", "warning: message",
        "delayed",
        "mail status report", "email error", "permanent error", "unzustellbar", "nicht zugestellt",
        "zustellung",
        "non remis", "échec", "echec", "nachricht konnte nicht", "unzugestellt", "non recapitabile",
        "mancato recapito",
        "no se ha podido", "no entregad", "devolvid", "недостав", "не доставлен", "ei voitu", "onbestelbaar",
        "配信", "エラー", "退信", "无法投递", "mail could not", "problem with your message", "dsn:", "failed:",
        "delivery attempts", "message not delivered", "transaction failed", "message you sent blocked",
        "blocked",
        "mail refused", "message bounced", "disabled", "are not member",
    ]

    /// Letters that say: we go on trying.
    static let delays = [
        "delayed", "warning: could not send", "delivery status notification (delay)", "message delayed",
        "still trying", "verzögert",
    ]

    static let failures = [
        "could not be delivered", "couldn't be delivered", "can't be delivered", "cannot be delivered",
        "was not delivered", "wasn't delivered", "unable to deliver", "not able to deliver",
        "failed to deliver",
        "delivery failed", "delivery failure", "permanent error", "fatal error", "undeliverable",
        "undelivered",
        "user unknown", "unknown user", "no such user", "does not exist", "doesn't exist", "mailbox full",
        "over quota", "not reach", "returned to you", "message rejected", "rejected your message",
        "not found",
        "following addresses", "following recipient", "following address", "failed addresses", "is unknown",
        "remote host said", "host said", "smtp error", "could not deliver", "couldn't deliver",
        "can't deliver",
        "konnte nicht", "nicht zugestellt", "n'a pas pu", "n'ont pas reçu", "no se pudo", "не удалось",
        "送信できません",
        "届けられません", "delivery error", "delivery to the following", "bounced", "has failed", "mail is rejected",
        "mail system", "blocked", "your message was", "not a member of",
    ]

    /// Beginnings of lines that name somebody else than a recipient.
    static let labels = [
        "from:", "sender:", "message-id:", "reply-to:", "in-reply-to:", "return-path:", "to:", "cc:",
        "errors-to:",
        "for further assistance", "reporting-mta",
    ]

    /// Words around the address of somebody to turn to.
    static let help = [
        "contact", "assistance", "help", "question", "administrator", "postmaster", "abuse", "support",
        "mailto:", "forward",
    ]

    /// Words that announce the copy wherever they stand.
    static let sureCopies = [
        "this is a copy of the message", "below this line is a copy", "this is a copy of your message",
        "message headers follow", "message header follows", "enclosed is a copy", "unsent message below",
    ]

    /// Lines that announce the copy of the original message.
    static let copies = [
        "below this line is a copy", "this is a copy of the message", "this is a copy of your message",
        "original message follows", "message follows", "message headers follow", "message header follows",
        "unsent message", "undelivered message", "original message", "returned message",
        "message contained within",
        "headers of the original", "header of the original", "headers of the message", "original mail",
        "rejected message",
        "copy of the original", "the header of your message", "below is a copy", "content of the message",
        "the body of the message", "received header", "message text follows", "text of your message",
        "beginning of your message", "first part of the original", "start of the original",
        "urspruengliche nachricht",
        "ursprüngliche nachricht", "message d'origine", "copie de votre message", "headers follow",
        "included message",
        "original-nachricht", "your original e-mail", "your original email",
    ]
}
