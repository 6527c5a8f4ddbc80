// A client made of npm's nodemailer: nodemailer_client.js SETTINGS, with the content as its input.
//
// Knows how nodemailer is told. Must not know what is sent, nor to whom.
'use strict';

const fs = require('fs');
const nodemailer = require('nodemailer');

const { sender, recipients, ca, ...settings } = JSON.parse(process.argv[2]);
if (ca) settings.tls = { ca: fs.readFileSync(ca) };

nodemailer.createTransport(settings).sendMail(
    {
        envelope: { from: sender, to: recipients, use8BitMime: true },
        raw: fs.readFileSync(0), // else it would write a message of its own
    },
    (error, done) => {
        if (error) console.log(error.message);
        else if (done.rejected.length) console.log(done.rejectedErrors.join('\n'));
        else return;
        process.exitCode = 1;
    },
);
