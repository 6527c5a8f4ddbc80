// What Haraka does with mail: nosuch@mail.test is refused, all else at mail.test goes into a
// Maildir, and what is for elsewhere goes nowhere, for those that have logged in.
//
// Knows Haraka's hooks and the folder. Must not know what is sent to it.
'use strict';

const fs = require('node:fs');
const path = require('node:path');

const box = path.join(process.env.HARAKA, 'mail', 'box', 'new');
let number = 0;

exports.register = function () {
    fs.mkdirSync(box, { recursive: true });
    this.register_hook('rcpt', 'rcpt');
    this.register_hook('queue', 'deliver');
    this.register_hook('queue_outbound', 'deliver');
};

exports.rcpt = function (next, connection, [recipient]) {
    const address = recipient.address();
    if (address.startsWith('nosuch@')) return next(DENY, '5.1.1 no such user');
    if (address.endsWith('@mail.test') || connection.relaying) return next(OK);
    next(DENY, '5.7.1 relay access denied');
};

exports.deliver = function (next, connection) {
    const { mail_from, rcpt_to, message_stream } = connection.transaction;
    message_stream.get_data((content) => {
        for (const recipient of rcpt_to) {
            const trace =
                `Return-Path: <${mail_from.address()}>\r\nDelivered-To: ${recipient.address()}\r\n`;
            const name = String(number++);
            const unfinished = path.join(box, '..', name);
            fs.writeFileSync(unfinished, Buffer.concat([Buffer.from(trace), content]));
            fs.renameSync(unfinished, path.join(box, name));
        }
        next(OK);
    });
};
